# METADATA
# title: Constraints
# description: Limits of one job, and which backends its own constraints leave (G2, G9).
# scope: package
# schemas:
#   - input: schema.input
package qcos.constraints

import data.qcos.levels
import data.qcos.values

default allow := false

# METADATA
# title: The job keeps the limits and some backend can take it
# entrypoint: true
allow if {
	_limits_borne
	distinct
	matching != set()
	every reason in deny {
		reason.level == "advisory"
	}
}

# METADATA
# title: One job uses at most so many qubits
# custom:
#   code: qubits_exceeded
deny contains _over("qubits_exceeded", ["limits", "max_qubits"], qubits, "qubits", "") if not qubits_within

# METADATA
# title: A team's job uses at most so many qubits
# custom:
#   code: team_qubits_exceeded
deny contains _over("team_qubits_exceeded", ["limits", "team", "max_qubits"], qubits, "qubits", of_team) if {
	not team_qubits_within
}

# METADATA
# title: One job asks for at most so many shots
# custom:
#   code: shots_exceeded
deny contains _over("shots_exceeded", ["limits", "max_shots"], shots, "shots", "") if not shots_within

# METADATA
# title: A stated depth is within the limit
# custom:
#   code: depth_exceeded
deny contains _over("depth_exceeded", ["limits", "max_depth"], depth, "layers of depth", "") if not depth_within

# METADATA
# title: A team's stated depth is within its limit
# custom:
#   code: team_depth_exceeded
deny contains _over("team_depth_exceeded", ["limits", "team", "max_depth"], depth, "layers of depth", of_team) if {
	not team_depth_within
}

# METADATA
# title: Some backend meets the job's constraints
# custom:
#   code: no_backend
deny contains reason if {
	not backend_left
	reason := {
		"code": "no_backend",
		"level": "hard",
		"message": concat("", ["constraints: no backend meets ", wanted, "; offered: ", offered]),
		"rule": "constraints.no_backend",
		"want": wanted,
		"have": offered,
		"fix": "loosen the constraints to fit one of the backends offered",
	}
}

_limits_borne if {
	qubits_within
	team_qubits_within
	shots_within
	depth_within
	team_depth_within
}

_limits_borne if levels.of("limit_exceeded") == "advisory"

backend_left if {
	distinct
	matching != set()
}

qubits_within if values.within(qubits, input.limits.max_qubits)

team_qubits_within if {
	same_team
	values.within(qubits, input.limits.team.max_qubits)
}

shots_within if values.within(shots, input.limits.max_shots)

depth_within if input.job.max_depth == null

depth_within if values.within(depth, input.limits.max_depth)

team_depth_within if input.job.max_depth == null

team_depth_within if {
	same_team
	values.within(depth, input.limits.team.max_depth)
}

# METADATA
# title: The team's limits are those of this very team
# description: Null is one too, a lost key is none.
same_team if input.limits.team.name == input.principal.team

# Two backends of one id would lend each other their properties.
distinct if {
	is_array(input.backends)
	count({backend.id | some backend in input.backends}) == count(input.backends)
}

# METADATA
# title: Ids of the backends that the job's own constraints leave
matching contains backend.id if {
	is_array(input.backends)
	some backend in input.backends
	provider_allowed(backend)
	pin_allowed(backend)
	large_enough(backend)
	values.name(backend.id)
}

provider_allowed(backend) if {
	input.job.allowed_providers == null
	values.name(backend.provider)
}

provider_allowed(backend) if {
	backend.provider in input.job.allowed_providers
	is_array(input.job.allowed_providers)
	values.name(backend.provider)
}

pin_allowed(_) if input.job.backend == null

pin_allowed(backend) if {
	values.name(input.job.backend)
	backend.id == input.job.backend
}

large_enough(backend) if values.within(qubits, backend.qubits)

# METADATA
# title: Shots asked for
# description: The larger of shots and executions (circuits x parameter sets x bases x shots), which quota uses too.
# scope: document
default shots := "nothing usable"

# Not by max(): the embedded engine takes it of the numbers' texts.
shots := input.job.executions if {
	values.fits(input.job.shots, input.job.executions)
	values.natural(input.job.executions)
} else := input.job.shots if {
	values.fits(input.job.executions, input.job.shots)
	values.natural(input.job.shots)
}

default depth := "nothing usable"

depth := input.job.max_depth if values.natural(input.job.max_depth)

default qubits := "nothing usable"

qubits := input.job.qubits if values.natural(input.job.qubits)

default of_team := " without a team"

of_team := concat("", [" of team ", input.principal.team]) if values.name(input.principal.team)

_over(rule, limit, asked, unit, whose) := {
	"code": "limit_exceeded",
	"level": levels.of("limit_exceeded"),
	"message": concat("", ["constraints: at most ", most, " ", unit, " a job", whose, ", asked for ", values.shown(asked)]),
	"rule": concat(".", ["constraints", rule]),
	"want": concat("", ["at most ", most, " ", unit]),
	"have": concat("", [values.shown(asked), " ", unit]),
	"fix": concat("", ["ask for at most ", most, " ", unit]),
} if {
	most := values.shown(object.get(input, limit, ""))
}

wanted := concat("", [values.shown(qubits), " qubits", _providers, _pin])

default _providers := ""

_providers := concat("", [", provider ", values.listed(_names(input.job.allowed_providers))]) if {
	is_array(input.job.allowed_providers)
}

default _pin := ""

_pin := concat("", [", backend ", input.job.backend]) if values.name(input.job.backend)

offered := values.listed({_described(backend) |
	is_array(input.backends)
	some backend in input.backends
	is_object(backend)
})

_described(backend) := concat("", [id, " (", provider, ", ", size, " qubits)"]) if {
	id := values.shown(object.get(backend, "id", ""))
	provider := values.shown(object.get(backend, "provider", ""))
	size := values.shown(object.get(backend, "qubits", ""))
}

_names(texts) := {text |
	some text in texts
	values.name(text)
}

default because := "denied"

# METADATA
# title: Why the check passed
# scope: document
because := concat("", [values.listed(matching), " meets ", wanted]) if {
	allow
	deny == set()
} else := levels.advice(deny) if {
	allow
}

# METADATA
# title: This package's line in the decision
check := {"name": "constraints", "pass": allow, "because": because, "rule": "constraints.allow"}
