# METADATA
# title: Tests of attributes
# scope: package
package qcos.attributes_test

import data.qcos.attributes
import data.qcos.sample_test as sample

research(purpose) := json.patch(sample.document, [
	{"op": "replace", "path": "/principal/department", "value": "research"},
	{"op": "replace", "path": "/limits/department", "value": {"name": "research", "purposes": ["benchmark"]}},
	{"op": "replace", "path": "/job/purpose", "value": purpose},
])

codes(document) := {reason.code |
	denied := attributes.deny with input as document
	some reason in denied
}

test_no_department_submits_for_all if attributes.allow with input as sample.document

test_research_submits_benchmarks if attributes.allow with input as research("benchmark-q1")

test_research_submits_nothing_else if {
	codes(research("production-benchmark")) == {"purpose_not_allowed"}
	not attributes.allow with input as research("production-benchmark")
}

test_message_says_what_would_pass if {
	some reason in attributes.deny with input as research("exploration")
	reason.message == "attributes: department research may submit for benchmark, the purpose is exploration"
	reason.fix == "state a purpose that begins with one of: benchmark"
}

test_research_may_is_said if {
	attributes.because == "department research may submit for benchmark" with input as research("benchmark")
}

test_limits_of_another_department_allow_nothing if {
	codes(sample.replaced("/principal/department", "sales")) == {"purpose_not_allowed"}
}

test_odd_purpose_is_refused if {
	every purpose in ["", " ", "ｐroduction", "benchmark\u0000x", 1, null, [], {}] {
		codes(sample.replaced("/job/purpose", purpose)) == {"purpose_not_allowed"}
	}
}

test_missing_key_denies if {
	every document in sample.without_each([
		"/principal/department",
		"/principal",
		"/job/purpose",
		"/limits/department/purposes",
		"/limits/department/name",
		"/limits/department",
		"/limits",
	]) {
		not attributes.allow with input as document
		count(attributes.deny) > 0 with input as document
	}
}

test_an_advisory_purpose_is_said_and_denies_nothing if {
	said := attributes.check with input as research("exploration") with data.data.reasons as {"purpose_not_allowed": "advisory"}
	said.pass == true
	said.because == "attributes: department research may submit for benchmark, the purpose is exploration"
}
