# METADATA
# title: Quota
# description: >-
#   Shots a day and unfinished jobs, by team and project, such as that a team has at most 50,000 shots a day (G2). For a
#   window without a job: how many of these the project has. Judges a snapshot: two decided at once may both pass.
# scope: package
# schemas:
#   - input: schema.input
package qcos.quota

import data.qcos.access
import data.qcos.constraints
import data.qcos.levels
import data.qcos.values

default allow := false

# METADATA
# title: The job keeps the day's quotas
# entrypoint: true
allow if {
	_borne
	every reason in deny {
		reason.level == "advisory"
	}
}

# METADATA
# title: A day's quota is not exceeded
# custom:
#   code: quota_exceeded
deny contains reason if {
	some name in (_quotas - kept)
	quota := allowances[name]
	limit := values.shown(quota.limit)
	used := values.shown(quota.used)
	asked := values.shown(quota.asked)
	reason := {
		"code": "quota_exceeded",
		"level": levels.of("quota_exceeded"),
		"message": concat("", ["quota: ", quota.of, " has ", used, " of ", limit, " ", quota.unit, ", asked for ", asked]),
		"rule": "quota.quota_exceeded",
		"want": concat("", ["at most ", limit, " ", quota.unit]),
		"have": concat("", [used, " used, ", asked, " asked for"]),
		"fix": _fix(quota),
	}
}

_borne if _quotas - kept == set()

_borne if levels.of("quota_exceeded") == "advisory"

default _quotas := {"jobs", "project", "team", "team_jobs"}

_quotas := {"windows"} if input.action == "reservation:create"

# METADATA
# title: The quotas that leave room for this job
# scope: document
kept contains "team" if {
	constraints.same_team
	values.room(input.usage.team_shots_today, constraints.shots, input.limits.team.shots_per_day)
}

kept contains "team_jobs" if {
	constraints.same_team
	values.room(input.usage.team_running_jobs, 1, input.limits.team.running_jobs)
}

kept contains "project" if values.room(input.usage.project_shots_today, constraints.shots, input.limits.project_shots_per_day)

kept contains "jobs" if values.room(input.usage.running_jobs, 1, input.limits.max_running_jobs)

kept contains "windows" if values.room(input.usage.windows, 1, input.limits.max_windows)

# METADATA
# title: The quotas in words, asked for only where one is not kept
allowances := {
	"team": {
		"of": who,
		"unit": "shots today",
		"limit": _of_team("shots_per_day"),
		"used": object.get(input, ["usage", "team_shots_today"], ""),
		"asked": constraints.shots,
	},
	"team_jobs": {
		"of": who,
		"unit": "unfinished jobs",
		"limit": _of_team("running_jobs"),
		"used": object.get(input, ["usage", "team_running_jobs"], ""),
		"asked": 1,
	},
	"project": {
		"of": concat("", ["project ", access.project]),
		"unit": "shots today",
		"limit": object.get(input, ["limits", "project_shots_per_day"], ""),
		"used": object.get(input, ["usage", "project_shots_today"], ""),
		"asked": constraints.shots,
	},
	"jobs": {
		"of": concat("", ["project ", access.project]),
		"unit": "unfinished jobs",
		"limit": object.get(input, ["limits", "max_running_jobs"], ""),
		"used": object.get(input, ["usage", "running_jobs"], ""),
		"asked": 1,
	},
	"windows": {
		"of": concat("", ["project ", access.project]),
		"unit": "reserved windows",
		"limit": object.get(input, ["limits", "max_windows"], ""),
		"used": object.get(input, ["usage", "windows"], ""),
		"asked": 1,
	},
}

default _fix(_) := "try again when the quota allows it, or ask an administrator for more"

_fix(quota) := concat("", ["ask for at most ", left, " shots, or try again tomorrow (UTC)"]) if {
	quota.unit == "shots today"
	values.natural(quota.limit)
	values.natural(quota.used)
	quota.limit > quota.used
	left := values.shown(quota.limit - quota.used)
}

default _of_team(_) := "nothing usable"

_of_team(limit) := input.limits.team[limit] if constraints.same_team

default who := "a principal without team"

who := concat("", ["team ", input.principal.team]) if values.name(input.principal.team)

default because := "denied"

# METADATA
# title: Why the check passed
# scope: document
because := concat("", [asked, " shots fit the quotas of ", who, " and project ", access.project]) if {
	allow
	deny == set()
	"team" in _quotas
	asked := values.shown(constraints.shots)
} else := concat("", ["one more window fits the quota of project ", access.project]) if {
	allow
	deny == set()
} else := levels.advice(deny) if {
	allow
}

# METADATA
# title: This package's line in the decision
check := {"name": "quota", "pass": allow, "because": because, "rule": "quota.allow"}
