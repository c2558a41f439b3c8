# METADATA
# title: Tests of separation
# scope: package
package qcos.separation_test

import data.qcos.main
import data.qcos.sample_test as sample
import data.qcos.separation

soft := {"quota_exceeded": "soft", "limit_exceeded": "soft", "outside_hours": "advisory", "zone_required": "hard"}

by_code := {"roles": {"*": ["quantum-admin"], "limit_exceeded": ["finops", "auditor"]}, "longest_s": 86400}

codes(document) := {reason.code |
	denied := separation.deny with input as document with data.data.reasons as soft with data.data.approvals as by_code
	some reason in denied
}

allowed(document) if {
	separation.allow with input as document with data.data.reasons as soft with data.data.approvals as by_code
}

test_a_second_person_overrides if {
	allowed(sample.approval)
	codes(sample.approval) == set()
}

test_because_says_who_and_what if {
	because := separation.because with input as sample.approval with data.data.reasons as soft
	because == "admin may override quota_exceeded"
}

test_the_decision_has_two_checks if {
	decision := main.decision with input as sample.approval with data.data.reasons as soft
	[[check.name, check.pass] | some check in decision.checks] == [["access", true], ["separation", true]]
	decision.reasons == []
}

test_a_denied_check_says_so if {
	separation.check == {"name": "separation", "pass": false, "because": "denied", "rule": "separation.allow"} with input as {}
}

test_as_shipped_nothing_is_overridable if {
	some reason in separation.deny with input as sample.approval
	reason.code == "not_overridable"
}

test_only_soft_reasons_are_overridden if {
	every reasons in [["zone_required"], ["outside_hours"], ["quota_exceeded", "zone_required"], ["other"], [""], [1], []] {
		not allowed(sample.approval_with("/approval/reasons", reasons))
		"not_overridable" in codes(sample.approval_with("/approval/reasons", reasons))
	}
}

test_nobody_approves_their_own if {
	codes(sample.approval_with("/approval/requested_by/subject", "s2")) == {"own_override"}
	codes(sample.approval_with("/approval/requested_by/name", "admin")) == {"own_override"}
	not allowed(sample.approval_with("/approval/requested_by/subject", "s2"))
}

test_one_name_in_two_domains_is_two_persons if {
	allowed(json.patch(sample.approval, [
		{"op": "replace", "path": "/approval/requested_by/name", "value": "admin"},
		{"op": "replace", "path": "/approval/requested_by/domain", "value": "other"},
	]))
}

test_a_service_approves_nothing if {
	codes(sample.approval_with("/principal/kind", "service")) == {"person_required"}
}

test_each_reason_has_its_roles if {
	document := sample.approval_with("/approval/reasons", ["quota_exceeded", "limit_exceeded"])
	codes(document) == {"approver_role_required"}
	some reason in separation.deny with input as document with data.data.reasons as soft with data.data.approvals as by_code
	reason.want == "auditor, finops"
	reason.have == "quantum-admin"
	both := json.patch(document, [{"op": "replace", "path": "/principal/roles", "value": ["finops", "quantum-admin"]}])
	allowed(both)
}

test_without_roles_in_the_data_nobody_approves if {
	every lost in [{}, {"roles": {}}, {"roles": {"*": "quantum-admin"}}, {"roles": {"*": []}}] {
		not separation.allow with input as sample.approval with data.data.reasons as soft with data.data.approvals as lost
	}
}

test_an_approval_says_why if codes(sample.approval_with("/approval/justification", "")) == {"justification_required"}

test_an_approval_ends if {
	every seconds in [86401, null, "1", -1, 1.5, {}] {
		codes(sample.approval_with("/approval/lasts_s", seconds)) == {"approval_too_long"}
	}
}

test_missing_key_denies if {
	every path in [
		"/principal",
		"/principal/subject",
		"/principal/name",
		"/principal/kind",
		"/principal/roles",
		"/approval",
		"/approval/requested_by",
		"/approval/requested_by/subject",
		"/approval/requested_by/name",
		"/approval/reasons",
		"/approval/justification",
		"/approval/lasts_s",
	] {
		document := json.patch(sample.approval_with("/approval/requested_by/domain", "demo"), [{"op": "remove", "path": path}])
		not allowed(document)
		count(codes(document)) > 0
	}
}
