# METADATA
# title: Tests of constraints
# scope: package
package qcos.constraints_test

import data.qcos.constraints
import data.qcos.sample_test as sample

codes(document) := {reason.code |
	denied := constraints.deny with input as document
	some reason in denied
}

rules(document) := {reason.rule |
	denied := constraints.deny with input as document
	some reason in denied
}

test_sample_is_within if constraints.allow with input as sample.document

test_constraints_that_fit if {
	constraints.allow with input as json.patch(sample.document, [
		{"op": "replace", "path": "/job/allowed_providers", "value": ["aws-braket", "aer"]},
		{"op": "replace", "path": "/job/backend", "value": "aer"},
		{"op": "replace", "path": "/job/max_depth", "value": null},
	])
}

test_limit_itself_is_allowed if constraints.allow with input as sample.replaced("/job/shots", 100000)

test_too_many_shots if {
	rules(sample.replaced("/job/shots", 100001)) == {"constraints.shots_exceeded"}
	codes(sample.replaced("/job/shots", 100001)) == {"limit_exceeded"}
}

test_executions_count_as_shots if {
	rules(sample.replaced("/job/executions", 100001)) == {"constraints.shots_exceeded"}
}

test_too_many_qubits_for_plane_and_backends if {
	rules(sample.replaced("/job/qubits", 65)) == {"constraints.qubits_exceeded", "constraints.no_backend"}
}

test_too_deep if rules(sample.replaced("/job/max_depth", 10001)) == {"constraints.depth_exceeded"}

test_message_says_limit_and_wish if {
	some reason in constraints.deny with input as sample.replaced("/job/shots", 100001)
	reason.message == "constraints: at most 100000 shots a job, asked for 100001"
	reason.fix == "ask for at most 100000 shots"
}

test_no_backend if {
	every change in [
		["/job/allowed_providers", ["ibm-quantum"]],
		["/job/allowed_providers", []],
		["/job/allowed_providers", "aer"],
		["/job/backend", "other"],
		["/job/backend", ""],
		["/job/qubits", 33],
		["/backends", []],
		["/backends", {}],
		["/backends/0/qubits", "many"],
		["/backends/0/id", ""],
	] {
		document := sample.replaced(change[0], change[1])
		not constraints.allow with input as document
		codes(document) == {"no_backend"}
	}
}

test_two_backends_of_one_id_are_refused if {
	codes(sample.replaced("/backends", [sample.backend, sample.backend])) == {"no_backend"}
}

test_no_backend_tells_what_is_offered if {
	document := json.patch(sample.document, [
		{"op": "replace", "path": "/job/allowed_providers", "value": ["ibm-quantum"]},
		{"op": "replace", "path": "/job/backend", "value": "heron"},
	])
	some reason in constraints.deny with input as document
	reason.want == "2 qubits, provider ibm-quantum, backend heron"
	reason.have == "aer (aer, 32 qubits)"
}

test_missing_key_denies if {
	every document in sample.without_each([
		"/job/shots",
		"/job/executions",
		"/job/qubits",
		"/job/max_depth",
		"/job/allowed_providers",
		"/job/backend",
		"/job",
		"/limits/max_qubits",
		"/limits/max_shots",
		"/limits/max_depth",
		"/limits",
		"/backends",
		"/backends/0/id",
		"/backends/0/provider",
		"/backends/0/qubits",
	]) {
		not constraints.allow with input as document
		count(constraints.deny) > 0 with input as document
	}
}

test_an_advisory_limit_is_said_and_denies_nothing if {
	document := sample.replaced("/job/max_depth", 10001)
	said := constraints.check with input as document with data.data.reasons as {"limit_exceeded": "advisory"}
	said.pass == true
	said.because == "constraints: at most 10000 layers of depth a job, asked for 10001"
}

test_a_team_has_limits_of_its_own if {
	document := json.patch(sample.document, [
		{"op": "replace", "path": "/limits/team/max_qubits", "value": 1},
		{"op": "replace", "path": "/limits/team/max_depth", "value": 99},
	])
	not constraints.allow with input as document
	messages := {reason.message |
		some reason in constraints.deny with input as document
	}
	messages == {
		"constraints: at most 1 qubits a job of team blue, asked for 2",
		"constraints: at most 99 layers of depth a job of team blue, asked for 100",
	}
}

test_team_limits_of_another_team_are_none if {
	every path in ["/principal/team", "/limits/team/name"] {
		not constraints.allow with input as sample.replaced(path, "green")
		some reason in constraints.deny with input as sample.replaced(path, "green")
		reason.rule == "constraints.team_qubits_exceeded"
	}
}

test_no_team_has_the_limits_of_no_team if {
	document := json.patch(sample.document, [
		{"op": "replace", "path": "/principal/team", "value": null},
		{"op": "replace", "path": "/limits/team/name", "value": null},
		{"op": "replace", "path": "/limits/team/max_qubits", "value": 1},
	])
	some reason in constraints.deny with input as document
	reason.message == "constraints: at most 1 qubits a job without a team, asked for 2"
}

test_missing_team_limits_deny if {
	every path in ["/limits/team/max_qubits", "/limits/team/max_depth", "/limits/team/name", "/limits/team", "/principal/team"] {
		not constraints.allow with input as sample.without(path)
		count(constraints.deny) > 0 with input as sample.without(path)
	}
}
