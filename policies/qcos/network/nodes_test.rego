# METADATA
# title: Tests of the network
# scope: package
package qcos.network_test

import data.qcos.classification
import data.qcos.main
import data.qcos.sample_test as sample

backend := {
	"id": "p2p",
	"provider": "p2p",
	"qubits": 32,
	"region": "network",
	"compliance_zone": "",
	"sovereign": false,
	"price_micros": 300000,
}

here := {"id": "a", "organisation": "lab", "region": "eu", "compliance_zone": "onprem", "sovereign": true}

abroad := {"id": "b", "organisation": "lab", "region": "us", "compliance_zone": "us-east", "sovereign": false}

plan(nodes) := {"plan_id": "p", "mode": "whole", "fragments": 1, "nodes": nodes}

over(nodes, made) := json.patch(sample.document, [
	{"op": "replace", "path": "/backends", "value": [backend]},
	{"op": "replace", "path": "/nodes", "value": nodes},
	{"op": "replace", "path": "/plan", "value": made},
])

codes(document) := {reason.code |
	denied := classification.deny with input as document
	some reason in denied
}

test_the_network_lies_where_its_nodes_lie if {
	classification.allow with input as over([here, abroad], null)
	classification.usable_nodes == {"a"} with input as over([here, abroad], null)
	main.decision.nodes == ["a"] with input as over([here, abroad], null)
}

test_a_network_without_a_node_there_is_refused if {
	codes(over([abroad], null)) == {"zone_required"}
	codes(over([], null)) == {"zone_required"}
	some reason in classification.deny with input as over([abroad], null)
	reason.have == "p2p has no node there"
}

test_a_network_that_the_constraints_leave_out_allows_no_node if {
	document := json.patch(over([here], null), [{"op": "replace", "path": "/job/qubits", "value": 33}])
	classification.usable_nodes == set() with input as document
	some reason in classification.deny with input as document
	reason.have == "p2p has nodes there and does not meet the constraints"
}

test_nodes_are_for_the_network_alone if {
	document := json.patch(sample.document, [{"op": "replace", "path": "/nodes", "value": [here]}])
	classification.allow with input as document
	classification.usable_nodes == set() with input as document
}

test_a_plan_stays_inside if {
	classification.allow with input as over([here, abroad], plan(["a"]))
	codes(over([here, abroad], plan(["a", "b"]))) == {"node_outside"}
	some reason in classification.deny with input as over([here, abroad], plan(["a", "b"]))
	reason.message == "classification: internal-restricted needs zone sovereign, planned over b"
}

test_a_plan_of_nobody_or_of_strangers_is_refused if {
	codes(over([here], plan([]))) == {"node_outside"}
	codes(over([here], plan(["c"]))) == {"node_outside"}
	every made in [{}, [], "a", 1, true, {"nodes": ["a"]}, {"plan_id": "p", "nodes": "a"}] {
		codes(over([here], made)) == {"node_outside"}
	}
	some reason in classification.deny with input as over([here], plan([]))
	reason.have == "no node"
}

test_two_nodes_of_one_id_are_none if {
	twin := object.union(abroad, {"id": "a"})
	codes(over([here, twin], null)) == {"zone_required"}
}

test_a_nodes_zone_and_sovereignty_are_read_strictly if {
	every change in [
		{"sovereign": "true"},
		{"sovereign": 1},
		{"compliance_zone": ""},
		{"compliance_zone": ["onprem"]},
		{"id": ""},
		{"id": 1},
	] {
		codes(over([object.union(here, change)], null)) == {"zone_required"}
	}
}

test_missing_key_of_the_network_denies if {
	document := over([here], plan(["a"]))
	every path in [
		"/nodes",
		"/nodes/0/id",
		"/nodes/0/compliance_zone",
		"/nodes/0/sovereign",
		"/plan",
		"/plan/nodes",
		"/plan/plan_id",
		"/backends/0/provider",
	] {
		lost := json.patch(document, [{"op": "remove", "path": path}])
		not classification.allow with input as lost
		count(classification.deny) > 0 with input as lost
	}
}
