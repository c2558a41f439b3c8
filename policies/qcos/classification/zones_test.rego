# METADATA
# title: Tests of classification
# scope: package
package qcos.classification_test

import data.qcos.classification
import data.qcos.sample_test as sample

braket := {
	"id": "aws-braket",
	"provider": "aws-braket",
	"qubits": 32,
	"region": "us-east-1",
	"compliance_zone": "us-east",
	"sovereign": false,
	"price_micros": 300000,
}

both(classification, pin) := json.patch(sample.document, [
	{"op": "replace", "path": "/job/classification", "value": classification},
	{"op": "replace", "path": "/job/backend", "value": pin},
	{"op": "add", "path": "/backends/-", "value": braket},
])

codes(document) := {reason.code |
	denied := classification.deny with input as document
	some reason in denied
}

test_restricted_work_runs_on_premise if classification.allow with input as sample.document

test_public_work_runs_anywhere if {
	classification.allow with input as both("public", null)
	classification.usable == {"aer", "aws-braket"} with input as both("public", null)
}

test_restricted_work_leaves_out_the_cloud if {
	classification.usable == {"aer"} with input as both("internal-restricted", null)
}

test_restricted_work_pinned_to_the_cloud_is_refused if {
	document := both("internal-restricted", "aws-braket")
	not classification.allow with input as document
	some reason in classification.deny with input as document
	reason.code == "zone_required"
	reason.message == "classification: internal-restricted needs zone sovereign, aws-braket lies in us-east"
	reason.fix == "pin aer"
}

test_fix_names_the_provider_too if {
	document := json.patch(both("classified", null), [{
		"op": "replace",
		"path": "/job/allowed_providers",
		"value": ["aws-braket"],
	}])
	some reason in classification.deny with input as document
	reason.fix == "allow provider aer and pin aer"
}

test_classified_work_needs_on_premise_and_sovereign if {
	classification.allow with input as sample.replaced("/job/classification", "classified")
	document := json.patch(sample.document, [
		{"op": "replace", "path": "/job/classification", "value": "classified"},
		{"op": "replace", "path": "/backends/0/compliance_zone", "value": "sovereign"},
	])
	codes(document) == {"zone_required"}
}

test_sovereign_is_literally_true if {
	every value in [false, null, "true", 1, [], {}] {
		document := sample.replaced("/backends/0/sovereign", value)
		codes(document) == {"zone_required"}
		some reason in classification.deny with input as document
		reason.have == "aer in onprem is not sovereign"
	}
}

test_right_zone_but_other_constraints if {
	document := sample.replaced("/job/backend", "elsewhere")
	some reason in classification.deny with input as document
	reason.have == "aer in onprem does not meet the constraints"
}

test_no_zone_is_no_zone if {
	some reason in classification.deny with input as sample.replaced("/backends/0/compliance_zone", "")
	reason.have == "aer lies in no stated zone"
}

test_no_backend_at_all if {
	some reason in classification.deny with input as sample.replaced("/backends", [])
	reason.have == "no backend is offered"
	reason.fix == "no backend offered passes: ask an administrator for one"
}

test_unknown_classification if {
	every value in ["secret", "", null, 1, ["public"], {}] {
		codes(sample.replaced("/job/classification", value)) == {"classification_unknown"}
	}
}

test_because_names_the_backends if {
	classification.because == "internal-restricted needs zone sovereign: aer" with input as sample.document
}

test_missing_key_denies if {
	every document in sample.without_each([
		"/job/classification",
		"/job",
		"/backends",
		"/backends/0/id",
		"/backends/0/compliance_zone",
		"/backends/0/sovereign",
	]) {
		not classification.allow with input as document
		count(classification.deny) > 0 with input as document
	}
}
