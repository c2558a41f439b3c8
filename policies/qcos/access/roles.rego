# METADATA
# title: Access
# description: Who may submit a job, reserve a window or approve an override, by role in the project and by the purpose (G2, G13).
# scope: package
# schemas:
#   - input: schema.input
#   - data.data.vocabulary: schema.vocabulary
package qcos.access

import data.data.vocabulary
import data.qcos.values

default allow := false

# METADATA
# title: The principal may do this
# entrypoint: true
allow if {
	deny == set()
	known_action
	member
	may_act
	may_pursue
}

# METADATA
# title: The action is one that these rules know
# custom:
#   code: action_unknown
deny contains reason if {
	not known_action
	reason := {
		"code": "action_unknown",
		"level": "hard",
		"message": concat("", ["access: no rule knows the action ", values.shown(object.get(input, "action", ""))]),
		"rule": "access.action_unknown",
		"want": values.listed(object.keys(vocabulary.actions)),
		"have": values.shown(object.get(input, "action", "")),
		"fix": "ask for one of these",
	}
}

# METADATA
# title: Only members of the project act in it
# custom:
#   code: not_a_member
deny contains reason if {
	not member
	known_action
	reason := {
		"code": "not_a_member",
		"level": "hard",
		"message": concat("", ["access: no role in project ", project]),
		"rule": "access.not_a_member",
		"want": "a role in the project",
		"have": "none",
		"fix": concat("", ["ask an administrator of ", project, " for a role"]),
	}
}

# METADATA
# title: Only some roles submit jobs, and fewer keep a node's room to themselves
# custom:
#   code: role_required
deny contains reason if {
	not may_act
	known_action
	member
	wanted := values.listed(acting_roles)
	reason := {
		"code": "role_required",
		"level": "hard",
		"message": concat("", ["access: ", deed, " needs one of ", wanted, ", held in ", project, ": ", held]),
		"rule": "access.role_required",
		"want": wanted,
		"have": held,
		"fix": concat("", ["ask an administrator of ", project, " for one of these roles"]),
	}
}

# METADATA
# title: Some purposes are for some roles only
# description: Only a quantum-engineer submits production jobs.
# custom:
#   code: purpose_role_required
deny contains reason if {
	not may_pursue
	known_action
	member
	may_act
	plain
	wanted := values.listed(roles_wanted)
	reason := {
		"code": "role_required",
		"level": "hard",
		"message": concat("", ["access: purpose ", purpose, " needs role ", wanted, ", held in ", project, ": ", held]),
		"rule": "access.purpose_role_required",
		"want": wanted,
		"have": held,
		"fix": concat("", ["ask a ", wanted, " to do it, or state another purpose"]),
	}
}

# METADATA
# title: A purpose is a plain word
# description: No rule could judge another one.
# custom:
#   code: purpose_unreadable
deny contains reason if {
	not plain
	reason := {
		"code": "purpose_not_allowed",
		"level": "hard",
		"message": concat("", ["access: the purpose is no plain word: ", purpose]),
		"rule": "access.purpose_unreadable",
		"want": "letters, digits and . _ : @ / -",
		"have": purpose,
		"fix": "state the purpose as one plain word",
	}
}

known_action if is_array(acting_roles)

# Who may do what is asked for; undefined for an action that nobody may.
acting_roles := vocabulary.actions[input.action]

default deed := "submitting"

deed := "reserving a window" if input.action == "reservation:create"

deed := "approving" if input.action == "job:approve"

member if roles != set()

may_act if {
	some role in roles
	role in acting_roles
}

# Who approves pursues nothing of their own.
may_pursue if input.action == "job:approve"

may_pursue if {
	plain
	is_array(vocabulary.purpose_roles)
	every rule in vocabulary.purpose_roles {
		_satisfied(rule)
	}
}

roles contains role if {
	is_array(input.principal.roles)
	some role in input.principal.roles
	values.name(role)
}

roles_wanted contains role if {
	some rule in vocabulary.purpose_roles
	not _satisfied(rule)
	some role in rule.roles
}

plain if is_string(stated)

# METADATA
# title: The purpose in lower case, if it is a plain word
stated := lower(_purpose) if values.label(_purpose)

# Asked only of a plain purpose. Never `not f(input.x)`: with a lost key OPA drops the whole rule, and the embedded
# engine takes it for true.
_satisfied(rule) if not startswith(stated, rule.prefix)

_satisfied(rule) if {
	some role in roles
	role in rule.roles
}

held := values.listed(roles)

project := values.shown(object.get(input, ["job", "project"], ""))

_purpose := object.get(input, ["job", "purpose"], "")

purpose := values.shown(_purpose)

default because := "denied"

# METADATA
# title: Why the check passed
# scope: document
because := concat("", [held, " may submit in ", project]) if {
	allow
	input.action == "job:submit"
}

because := concat("", [held, " may reserve windows in ", project]) if {
	allow
	input.action == "reservation:create"
}

because := concat("", [held, " may approve in ", project]) if {
	allow
	input.action == "job:approve"
}

# METADATA
# title: This package's line in the decision
check := {"name": "access", "pass": allow, "because": because, "rule": "access.allow"}
