# METADATA
# title: Attributes
# description: >-
#   What attributes of the principal allow (ABAC): a department submits only for its purposes, such as research for
#   benchmarks alone, and only at its hours (G2).
# scope: package
# schemas:
#   - input: schema.input
package qcos.attributes

import data.qcos.access
import data.qcos.levels
import data.qcos.values

default allow := false

# METADATA
# title: The principal's attributes allow this job
# entrypoint: true
allow if {
	_purpose_borne
	_hours_borne
	every reason in deny {
		reason.level == "advisory"
	}
}

# METADATA
# title: A department submits only for its purposes
# description: Also a purpose that is no plain word is refused, for no rule could judge it.
# custom:
#   code: purpose_not_allowed
deny contains reason if {
	not purpose_allowed
	reason := {
		"code": "purpose_not_allowed",
		"level": levels.of("purpose_not_allowed"),
		"message": concat("", ["attributes: ", who, " may submit for ", wanted, ", the purpose is ", access.purpose]),
		"rule": "attributes.purpose_not_allowed",
		"want": wanted,
		"have": access.purpose,
		"fix": concat("", ["state a purpose that begins with one of: ", wanted]),
	}
}

# METADATA
# title: A department submits only at its hours
# description: In UTC, by the line of the longest beginning that the purpose has. Without any line it never does.
# custom:
#   code: outside_hours
deny contains reason if {
	not hours_open
	_purpose_borne
	reason := {
		"code": "outside_hours",
		"level": levels.of("outside_hours"),
		"message": concat("", ["attributes: ", who, " may submit for ", access.purpose, " ", open, " (UTC), it is ", moment]),
		"rule": "attributes.outside_hours",
		"want": concat("", [open, " (UTC)"]),
		"have": moment,
		"fix": "submit it then, or ask an administrator for other hours",
	}
}

_purpose_borne if purpose_allowed

_purpose_borne if levels.of("purpose_not_allowed") == "advisory"

_hours_borne if hours_open

_hours_borne if levels.of("outside_hours") == "advisory"

purpose_allowed if {
	some prefix in purposes
	_serves(prefix)
}

# METADATA
# title: Beginnings of the purposes that the department may state
purposes contains prefix if {
	same_department
	is_array(input.limits.department.purposes)
	some prefix in input.limits.department.purposes
	values.name(prefix)
}

hours_open if _line.always == true

hours_open if {
	_line.always == false
	some span in _line.days[input.time.weekday]
	values.fits(span.begins, input.time.minute)
	values.natural(span.ends)
	input.time.minute < span.ends
}

# They come the longest beginning first, so the first that fits is the purpose's own.
_line := _lines[0]

_lines := [line |
	same_department
	is_array(input.limits.department.hours)
	some line in input.limits.department.hours
	_serves(line.purpose)
]

_serves("*") if access.plain

_serves(prefix) if {
	values.name(prefix)
	startswith(access.stated, prefix)
}

# The limits are those of this very department: null is one too, a lost key is none.
same_department if input.limits.department.name == input.principal.department

default who := "a principal without department"

who := concat("", ["department ", input.principal.department]) if values.name(input.principal.department)

wanted := values.listed(purposes)

default open := "never"

open := _line.said if values.name(_line.said)

moment := values.shown(object.get(input, ["time", "now"], ""))

default because := "denied"

# METADATA
# title: Why the check passed
# scope: document
because := concat("", [who, " may submit for ", access.purpose]) if {
	allow
	deny == set()
} else := levels.advice(deny) if {
	allow
}

# METADATA
# title: This package's line in the decision
check := {"name": "attributes", "pass": allow, "because": because, "rule": "attributes.allow"}
