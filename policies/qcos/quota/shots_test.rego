# METADATA
# title: Tests of quota
# scope: package
package qcos.quota_test

import data.qcos.quota
import data.qcos.sample_test as sample

codes(document) := {reason.code |
	denied := quota.deny with input as document
	some reason in denied
}

messages(document) := {reason.message |
	denied := quota.deny with input as document
	some reason in denied
}

test_fresh_day if quota.allow with input as sample.document

test_last_shot_of_the_day if quota.allow with input as sample.replaced("/usage/team_shots_today", 49000)

test_team_has_used_its_day if {
	document := sample.replaced("/usage/team_shots_today", 49001)
	not quota.allow with input as document
	codes(document) == {"quota_exceeded"}
	messages(document) == {"quota: team blue has 49001 of 50000 shots today, asked for 1000"}
	some reason in quota.deny with input as document
	reason.fix == "ask for at most 999 shots, or try again tomorrow (UTC)"
}

test_nothing_left if {
	some reason in quota.deny with input as sample.replaced("/usage/team_shots_today", 50000)
	reason.fix == "try again when the quota allows it, or ask an administrator for more"
}

test_executions_count if codes(sample.replaced("/job/executions", 50001)) == {"quota_exceeded"}

test_project_has_used_its_day if {
	document := sample.replaced("/usage/project_shots_today", 999001)
	messages(document) == {"quota: project demo has 999001 of 1000000 shots today, asked for 1000"}
}

test_too_many_unfinished_jobs if {
	document := sample.replaced("/usage/running_jobs", 100)
	messages(document) == {"quota: project demo has 100 of 100 unfinished jobs, asked for 1"}
}

test_too_many_unfinished_jobs_of_the_team if {
	quota.allow with input as sample.replaced("/usage/team_running_jobs", 49)
	document := sample.replaced("/usage/team_running_jobs", 50)
	not quota.allow with input as document
	messages(document) == {"quota: team blue has 50 of 50 unfinished jobs, asked for 1"}
}

test_no_team if {
	document := json.patch(sample.document, [
		{"op": "replace", "path": "/principal/team", "value": null},
		{"op": "replace", "path": "/limits/team/name", "value": null},
	])
	quota.allow with input as document
	quota.because == "1000 shots fit the quotas of a principal without team and project demo" with input as document
}

test_limit_of_another_team_is_none if {
	codes(sample.replaced("/principal/team", "green")) == {"quota_exceeded"}
}

test_figures_of_another_type_deny if {
	every path in ["/usage/team_shots_today", "/usage/running_jobs", "/limits/team/shots_per_day"] {
		every value in [null, "0", "many", [], {}, true, -1, 1.5] {
			codes(sample.replaced(path, value)) == {"quota_exceeded"}
		}
	}
}

test_missing_key_denies if {
	every document in sample.without_each([
		"/job/shots",
		"/job/executions",
		"/job",
		"/usage/team_shots_today",
		"/usage/project_shots_today",
		"/usage/running_jobs",
		"/usage",
		"/usage/team_running_jobs",
		"/limits/team/shots_per_day",
		"/limits/team/running_jobs",
		"/limits/team/name",
		"/limits/team",
		"/limits/project_shots_per_day",
		"/limits/max_running_jobs",
		"/limits",
		"/principal/team",
		"/principal",
	]) {
		not quota.allow with input as document
		count(quota.deny) > 0 with input as document
	}
}

test_last_window if {
	quota.because == "one more window fits the quota of project demo" with input as sample.reservation
}

test_too_many_windows if {
	messages(sample.reservation_with("/usage/windows", 2)) == {"quota: project demo has 2 of 2 reserved windows, asked for 1"}
}

test_windows_of_another_type_deny if {
	every path in ["/usage/windows", "/limits/max_windows"] {
		every value in [null, "0", [], true, -1, 1.5] {
			codes(sample.reservation_with(path, value)) == {"quota_exceeded"}
		}
	}
}

test_missing_windows_deny if {
	every path in ["/usage/windows", "/limits/max_windows", "/usage", "/limits"] {
		document := json.patch(sample.reservation, [{"op": "remove", "path": path}])
		not quota.allow with input as document
		codes(document) == {"quota_exceeded"}
	}
}

test_jobs_do_not_count_against_a_window if {
	quota.allow with input as sample.reservation_with("/usage/running_jobs", 100)
}

test_a_soft_quota_denies_and_says_so if {
	document := sample.replaced("/usage/running_jobs", 100)
	not quota.allow with input as document with data.data.reasons as {"quota_exceeded": "soft"}
	some reason in quota.deny with input as document with data.data.reasons as {"quota_exceeded": "soft"}
	reason.level == "soft"
}

test_an_advisory_quota_is_said_and_denies_nothing if {
	document := sample.replaced("/usage/running_jobs", 100)
	said := quota.check with input as document with data.data.reasons as {"quota_exceeded": "advisory"}
	said.pass == true
	said.because == "quota: project demo has 100 of 100 unfinished jobs, asked for 1"
}
