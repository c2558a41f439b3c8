# METADATA
# title: Separation of duties
# description: >-
#   Who may override a soft denial: a second person, with a role for each of its reasons, who says why and for how long
#   (G2). Action `job:approve`; whose job it is and what spoke against it stands in `input.approval`.
# scope: package
# schemas:
#   - input: schema.input
#   - data.data.approvals: schema.approvals
package qcos.separation

import data.data.approvals
import data.qcos.access
import data.qcos.levels
import data.qcos.values

default allow := false

# METADATA
# title: This principal may override these reasons
# entrypoint: true
allow if {
	deny == set()
	overridable
	another
	person
	entitled
	justified
	short
}

# METADATA
# title: Only soft reasons may be overridden
# description: By the levels in force now. A request that names no reason overrides none.
# custom:
#   code: not_overridable
deny contains reason if {
	not overridable
	reason := {
		"code": "not_overridable",
		"level": "hard",
		"message": concat("", ["separation: only soft reasons may be overridden, asked for ", asked]),
		"rule": "separation.not_overridable",
		"want": "soft reasons alone",
		"have": asked,
		"fix": "remove what the hard reasons speak of",
	}
}

# METADATA
# title: Nobody approves their own override
# description: Neither under the same subject nor under the same name.
# custom:
#   code: own_override
deny contains reason if {
	not another
	reason := {
		"code": "own_override",
		"level": "hard",
		"message": concat("", ["separation: nobody approves their own override: requested and approved by ", approver]),
		"rule": "separation.own_override",
		"want": "a second person",
		"have": approver,
		"fix": "have somebody else approve it",
	}
}

# METADATA
# title: Services don't approve
# custom:
#   code: person_required
deny contains reason if {
	not person
	kind := values.shown(object.get(input, ["principal", "kind"], ""))
	reason := {
		"code": "person_required",
		"level": "hard",
		"message": concat("", ["separation: only a person approves, ", approver, " is: ", kind]),
		"rule": "separation.person_required",
		"want": "user",
		"have": kind,
		"fix": "have a person approve it",
	}
}

# METADATA
# title: Each reason has roles that may override it
# custom:
#   code: approver_role_required
deny contains reason if {
	not entitled
	reason := {
		"code": "approver_role_required",
		"level": "hard",
		"message": concat("", ["separation: to override ", asked, " needs ", wanted, ", held: ", access.held]),
		"rule": "separation.approver_role_required",
		"want": wanted,
		"have": access.held,
		"fix": "have somebody with this role approve it",
	}
}

# METADATA
# title: An approval says why
# custom:
#   code: justification_required
deny contains reason if {
	not justified
	reason := {
		"code": "justification_required",
		"level": "hard",
		"message": "separation: an approval says why",
		"rule": "separation.justification_required",
		"want": "a justification",
		"have": "none",
		"fix": "say why",
	}
}

# METADATA
# title: An approval ends
# custom:
#   code: approval_too_long
deny contains reason if {
	not short
	longest := concat("", [values.shown(approvals.longest_s), " s"])
	lasts := concat("", [values.shown(object.get(input, ["approval", "lasts_s"], "")), " s"])
	reason := {
		"code": "approval_too_long",
		"level": "hard",
		"message": concat("", ["separation: an approval lasts at most ", longest, ", asked for ", lasts]),
		"rule": "separation.approval_too_long",
		"want": concat("", ["at most ", longest]),
		"have": lasts,
		"fix": concat("", ["let it end within ", longest]),
	}
}

overridable if {
	reasons != set()
	every code in input.approval.reasons {
		levels.of(code) == "soft"
	}
}

another if {
	values.name(input.principal.subject)
	values.name(input.approval.requested_by.subject)
	input.principal.subject != input.approval.requested_by.subject
	_names_differ
}

_names_differ if {
	values.name(input.principal.name)
	values.name(input.approval.requested_by.name)
	input.principal.name != input.approval.requested_by.name
}

# Two domains may each have an "alice"; a lost domain has none.
_names_differ if {
	values.name(input.principal.domain)
	values.name(input.approval.requested_by.domain)
	input.principal.domain != input.approval.requested_by.domain
}

person if input.principal.kind == "user"

entitled if {
	reasons != set()
	every code in input.approval.reasons {
		_entitled(code)
	}
}

justified if values.name(input.approval.justification)

short if {
	values.natural(input.approval.lasts_s)
	values.natural(approvals.longest_s)
	input.approval.lasts_s <= approvals.longest_s
}

reasons contains code if {
	is_array(input.approval.reasons)
	some code in input.approval.reasons
	values.name(code)
}

# METADATA
# title: Roles that may override a reason
# description: Those of its code; of `*` where the data has no line for it.
overriding(code) := object.get(approvals.roles, code, approvals.roles["*"])

_entitled(code) if {
	some role in access.roles
	role in overriding(code)
}

asked := values.listed(reasons)

wanted := values.listed({role |
	some code in reasons
	not _entitled(code)
	some role in overriding(code)
})

approver := values.shown(object.get(input, ["principal", "name"], ""))

default because := "denied"

# METADATA
# title: Why the check passed
# scope: document
because := concat("", [approver, " may override ", asked]) if allow

# METADATA
# title: This package's line in the decision
check := {"name": "separation", "pass": allow, "because": because, "rule": "separation.allow"}
