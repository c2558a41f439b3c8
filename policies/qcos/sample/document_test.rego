# METADATA
# title: Sample
# description: An input document that every check allows; tests change one thing in it.
# scope: package
package qcos.sample_test

document := {
	"action": "job:submit",
	"principal": {
		"subject": "s1",
		"name": "engineer",
		"domain": "demo",
		"tenant": "demo",
		"roles": ["quantum-engineer"],
		"team": "blue",
		"department": null,
		"kind": "user",
	},
	"job": {
		"project": "demo",
		"cost_center": "CC-1",
		"classification": "internal-restricted",
		"purpose": "production-benchmark",
		"justification": null,
		"format": "QASM3",
		"shots": 1000,
		"executions": 1000,
		"qubits": 2,
		"max_depth": 100,
		"evidence_level": "full",
		"retention_days": 365,
		"allowed_providers": null,
		"backend": null,
	},
	"price": {
		"amount": "0.52",
		"currency": "USD",
		"micros": 520000,
	},
	"budgets": [{
		"scope": "project:demo",
		"period": "monthly",
		"limit": "5000",
		"held": "0",
		"captured": "0",
		"available": "5000",
		"currency": "USD",
		"available_micros": 5000000000,
		"limit_micros": 5000000000,
	}],
	"usage": {
		"team_shots_today": 0,
		"project_shots_today": 0,
		"running_jobs": 0,
		"team_running_jobs": 0,
	},
	"limits": {
		"max_qubits": 64,
		"max_shots": 100000,
		"max_depth": 10000,
		"max_running_jobs": 100,
		"project_shots_per_day": 1000000,
		"team": {
			"name": "blue",
			"shots_per_day": 50000,
			"running_jobs": 50,
			"max_qubits": 1024,
			"max_depth": 1000000,
		},
		"department": {
			"name": null,
			"purposes": ["*"],
			"hours": [{"purpose": "*", "always": true, "days": {}, "said": "always"}],
		},
		"regions": ["*"],
		"zones": ["*"],
		"budget_warning_percent": 100,
		"budget_approval_percent": 100,
	},
	"backends": [{
		"id": "aer",
		"provider": "aer",
		"qubits": 32,
		"region": "local",
		"compliance_zone": "onprem",
		"sovereign": true,
		"price_micros": 520000,
	}],
	"nodes": [],
	"plan": null,
	"time": {
		"now": "2026-11-21T02:00:00.000Z",
		"date": "2026-11-21",
		"weekday": "sat",
		"minute": 120,
	},
}

replaced(path, value) := json.patch(document, [{"op": "replace", "path": path, "value": value}])

without(path) := json.patch(document, [{"op": "remove", "path": path}])

# Every path of the sample, as JSON pointers, whose absence must deny in one of the checks.
without_each(paths) := {path: without(path) | some path in paths}

backend := document.backends[0]

# A window on a node without a job.
reservation := json.patch(document, [
	{"op": "replace", "path": "/action", "value": "reservation:create"},
	{"op": "add", "path": "/usage/windows", "value": 1},
	{"op": "add", "path": "/limits/max_windows", "value": 2},
])

reservation_with(path, value) := json.patch(reservation, [{"op": "replace", "path": path, "value": value}])

# Somebody else's soft denial, which an administrator overrides.
approval := json.patch(document, [
	{"op": "replace", "path": "/action", "value": "job:approve"},
	{"op": "replace", "path": "/principal/subject", "value": "s2"},
	{"op": "replace", "path": "/principal/name", "value": "admin"},
	{"op": "replace", "path": "/principal/roles", "value": ["quantum-admin"]},
	{"op": "add", "path": "/approval", "value": {
		"requested_by": {"subject": "s1", "name": "engineer", "domain": "demo"},
		"reasons": ["quota_exceeded"],
		"justification": "the review is tomorrow",
		"lasts_s": 86400,
	}},
])

approval_with(path, value) := json.patch(approval, [{"op": "replace", "path": path, "value": value}])
