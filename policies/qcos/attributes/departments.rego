# METADATA
# title: Attributes
# description: What attributes of the principal allow (ABAC), such as that research submits only benchmark jobs (G2).
# scope: package
# schemas:
#   - input: schema.input
package qcos.attributes

import data.qcos.levels
import data.qcos.values

default allow := false

# METADATA
# title: The principal's attributes allow this job
# entrypoint: true
allow if {
	_purpose_borne
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
		"message": concat("", ["attributes: ", who, " may submit for ", wanted, ", the purpose is ", purpose]),
		"rule": "attributes.purpose_not_allowed",
		"want": wanted,
		"have": purpose,
		"fix": concat("", ["state a purpose that begins with one of: ", wanted]),
	}
}

_purpose_borne if purpose_allowed

_purpose_borne if levels.of("purpose_not_allowed") == "advisory"

purpose_allowed if {
	values.label(input.job.purpose)
	some prefix in purposes
	_serves(prefix)
}

purposes contains prefix if {
	same_department
	is_array(input.limits.department.purposes)
	some prefix in input.limits.department.purposes
	values.name(prefix)
}

_serves("*")

_serves(prefix) if values.begins(input.job.purpose, prefix)

# The limits are those of this very department: null is one too, a lost key is none.
same_department if input.limits.department.name == input.principal.department

default who := "a principal without department"

who := concat("", ["department ", input.principal.department]) if values.name(input.principal.department)

wanted := values.listed(purposes)

purpose := values.shown(object.get(input, ["job", "purpose"], ""))

default because := "denied"

# METADATA
# title: Why the check passed
# scope: document
because := concat("", [who, " may submit for ", purpose]) if {
	allow
	deny == set()
}

because := levels.advice(deny) if {
	allow
	deny != set()
}

# METADATA
# title: This package's line in the decision
check := {"name": "attributes", "pass": allow, "because": because, "rule": "attributes.allow"}
