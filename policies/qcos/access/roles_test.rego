# METADATA
# title: Tests of access
# scope: package
package qcos.access_test

import data.qcos.access
import data.qcos.sample_test as sample

codes(document) := {reason.code |
	denied := access.deny with input as document
	some reason in denied
}

test_engineer_submits_production if access.allow with input as sample.document

test_because_names_the_role if {
	access.because == "quantum-engineer may submit in demo" with input as sample.document
}

test_user_submits_no_production if {
	document := sample.replaced("/principal/roles", ["quantum-user"])
	not access.allow with input as document
	codes(document) == {"role_required"}
}

test_admin_submits_no_production if {
	document := sample.replaced("/principal/roles", ["quantum-admin"])
	codes(document) == {"role_required"}
}

test_case_does_not_hide_production if {
	document := json.patch(sample.document, [
		{"op": "replace", "path": "/principal/roles", "value": ["quantum-user"]},
		{"op": "replace", "path": "/job/purpose", "value": "Production"},
	])
	codes(document) == {"role_required"}
}

test_user_submits_research if {
	document := json.patch(sample.document, [
		{"op": "replace", "path": "/principal/roles", "value": ["quantum-user"]},
		{"op": "replace", "path": "/job/purpose", "value": "research"},
	])
	access.allow with input as document
}

test_auditor_and_finops_submit_nothing if {
	every role in ["auditor", "finops", "root"] {
		codes(sample.replaced("/principal/roles", [role])) == {"role_required"}
	}
}

test_stranger_is_not_a_member if {
	codes(sample.replaced("/principal/roles", [])) == {"not_a_member"}
}

test_roles_of_another_type_are_none if {
	every roles in ["quantum-engineer", {"a": "quantum-engineer"}, null, 1, [["quantum-engineer"]]] {
		codes(sample.replaced("/principal/roles", roles)) == {"not_a_member"}
	}
}

test_odd_purpose_is_refused if {
	every value in ["", "a b", "ｐroduction", 1, null, [], {}] {
		codes(sample.replaced("/job/purpose", value)) == {"purpose_not_allowed"}
		not access.allow with input as sample.replaced("/job/purpose", value)
	}
}

test_other_action_is_unknown if {
	codes(sample.replaced("/action", "job:delete")) == {"action_unknown"}
}

test_missing_key_denies if {
	every document in sample.without_each(["/action", "/principal/roles", "/principal", "/job/purpose", "/job"]) {
		not access.allow with input as document
		count(access.deny) > 0 with input as document
	}
}

test_engineer_and_admin_reserve_windows if {
	access.because == "quantum-engineer may reserve windows in demo" with input as sample.reservation
	document := json.patch(sample.reservation, [
		{"op": "replace", "path": "/principal/roles", "value": ["quantum-admin"]},
		{"op": "replace", "path": "/job/purpose", "value": "maintenance"},
	])
	access.allow with input as document
}

test_user_reserves_no_window if {
	document := sample.reservation_with("/principal/roles", ["quantum-user"])
	some reason in access.deny with input as document
	reason.code == "role_required"
	startswith(reason.message, "access: reserving a window needs one of quantum-admin, quantum-engineer")
}

test_admin_approves_whatever_the_purpose if {
	access.because == "quantum-admin may approve in demo" with input as sample.approval
}

test_engineer_approves_nothing if {
	some reason in access.deny with input as sample.approval_with("/principal/roles", ["quantum-engineer"])
	startswith(reason.message, "access: approving needs one of quantum-admin, held in demo: quantum-engineer")
}
