# METADATA
# title: Tests of residency
# scope: package
package qcos.residency_test

import data.qcos.main
import data.qcos.residency
import data.qcos.sample_test as sample

codes(document) := {reason.code |
	denied := residency.deny with input as document
	some reason in denied
}

cloud := object.union(sample.backend, {
	"id": "braket",
	"provider": "aws-braket",
	"region": "us-east-1",
	"compliance_zone": "us-east",
})

fabric := object.union(sample.backend, {"id": "p2p", "provider": "p2p", "region": "network", "compliance_zone": ""})

# A public job with these backends, in a project of these regions and zones.
placed(backends, regions, zones) := json.patch(sample.document, [
	{"op": "replace", "path": "/job/classification", "value": "public"},
	{"op": "replace", "path": "/backends", "value": backends},
	{"op": "replace", "path": "/limits/regions", "value": regions},
	{"op": "replace", "path": "/limits/zones", "value": zones},
])

node(id, region) := {"id": id, "organisation": "lab", "region": region, "compliance_zone": "onprem", "sovereign": true}

planned(document, nodes, plan) := json.patch(document, [
	{"op": "replace", "path": "/nodes", "value": nodes},
	{"op": "replace", "path": "/plan", "value": {"plan_id": "a", "mode": "whole", "fragments": 1, "nodes": plan}},
])

test_as_shipped_work_may_go_anywhere if {
	residency.usable == {"aer", "braket"} with input as placed([sample.backend, cloud], ["*"], ["*"])
	residency.because == "work of demo may go to aer" with input as sample.document
}

test_work_stays_in_its_regions_and_zones if {
	residency.usable == {"aer"} with input as placed([sample.backend, cloud], ["local"], ["*"])
	residency.usable == {"braket"} with input as placed([sample.backend, cloud], ["*"], ["us-east", "us-west"])
	residency.allow with input as placed([sample.backend, cloud], ["local"], ["onprem"])
}

test_nothing_there_is_said if {
	document := placed([sample.backend, cloud], ["us-east-1"], ["onprem"])
	not residency.allow with input as document
	some reason in residency.deny with input as document
	reason.code == "residency_required"
	reason.want == "regions us-east-1, zones onprem"
	reason.have == "aer lies in region local, zone onprem, braket lies in region us-east-1, zone us-east"
}

test_a_backend_of_the_network_lies_where_its_nodes_lie if {
	nodes := [node("a", "local"), node("b", "far")]
	document := json.patch(placed([fabric], ["local"], ["*"]), [{"op": "replace", "path": "/nodes", "value": nodes}])
	residency.allow with input as document
	residency.usable_nodes == {"a"} with input as document
	away := json.patch(document, [{"op": "replace", "path": "/limits/regions", "value": ["elsewhere"]}])
	codes(away) == {"residency_required"}
	some reason in residency.deny with input as away
	reason.have == "p2p has no node there"
}

test_a_plan_stays_there_too if {
	document := placed([fabric], ["local"], ["*"])
	nodes := [node("a", "local"), node("b", "far")]
	residency.allow with input as planned(document, nodes, ["a"])
	codes(planned(document, nodes, ["a", "b"])) == {"node_outside"}
	not residency.allow with input as planned(document, nodes, ["a", "b"])
	codes(planned(document, nodes, [])) == set()
	some reason in residency.deny with input as planned(document, nodes, ["a", "b"])
	reason.message == "residency: work of demo stays in regions local, zones *, planned over b"
}

rules := {
	"*": {"classifications": ["*"], "departments": ["*"], "regions": ["*"]},
	"aws-braket": {"classifications": ["public"], "departments": ["research"], "regions": ["eu-west-1", "us-east-1"]},
}

# The job of a department that may or may not give it to the cloud.
exported(department, classification) := json.patch(placed([cloud], ["*"], ["*"]), [
	{"op": "replace", "path": "/job/classification", "value": classification},
	{"op": "replace", "path": "/principal/department", "value": department},
])

test_a_provider_is_given_what_its_line_says if {
	residency.allow with input as exported("research", "public") with data.data.exports as rules
	every document in [exported("sales", "public"), exported(null, "public"), exported("research", "internal")] {
		not residency.allow with input as document with data.data.exports as rules
	}
}

test_a_line_has_its_regions if {
	document := json.patch(exported("research", "public"), [{"op": "replace", "path": "/backends/0/region", "value": "us-2"}])
	not residency.allow with input as document with data.data.exports as rules
}

test_an_export_that_is_denied_is_said if {
	some reason in residency.deny with input as exported(null, "public") with data.data.exports as rules
	reason.code == "export_denied"
	reason.message == "residency: aws-braket may not be given public of a principal without department"
	some other in residency.deny with input as exported("sales", "public") with data.data.exports as rules
	other.want == "a provider that may be given public of department sales"
}

test_who_has_no_line_has_that_of_all if {
	none := object.union(rules, {"*": {"classifications": [], "departments": ["*"], "regions": ["*"]}})
	not residency.allow with input as sample.document with data.data.exports as none
	residency.allow with input as exported("research", "public") with data.data.exports as none
}

test_without_rules_nothing_is_exported if {
	every lost in [{}, [], null, {"*": {}}, {"*": []}, {"*": {"classifications": "*", "departments": ["*"], "regions": ["*"]}}] {
		not residency.allow with input as sample.document with data.data.exports as lost
	}
}

test_where_nothing_is_left_there_is_nothing_to_place if {
	document := sample.replaced("/job/classification", "secret")
	residency.because == "no backend is left to place" with input as document
	decision := main.decision with input as document
	decision.backends == []
}

allowed(document) if {
	decision := main.decision with input as document with data.data.exports as rules
	decision.backends != []
	every check in decision.checks {
		check.pass == true
	}
}

test_missing_key_denies if {
	allowed(placed([sample.backend], ["local"], ["onprem"]))
	every path in [
		"/limits/regions",
		"/limits/zones",
		"/limits",
		"/plan",
		"/backends/0/region",
		"/backends/0/compliance_zone",
		"/principal/department",
		"/principal",
	] {
		# A line for everybody, and a job that meets it by each of its keys.
		document := json.patch(placed([sample.backend], ["local"], ["onprem"]), [{"op": "remove", "path": path}])
		not allowed(document)
	}
}

test_places_of_another_type_deny if {
	every odd in [null, "*", {"a": "*"}, 1, true, []] {
		not residency.allow with input as placed([sample.backend], odd, ["*"])
		not residency.allow with input as placed([sample.backend], ["*"], odd)
		codes(placed([sample.backend], odd, ["*"])) == {"residency_required"}
	}
}
