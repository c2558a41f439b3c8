# METADATA
# title: Obligations
# description: >-
#   What an allowed job is bound to: an evidence level, a class of backends, that somebody is notified (G2). A rule of
#   the data applies unless one of its conditions surely doesn't hold, so that a misspelt condition or a lost key binds
#   too much and never too little (I5).
# scope: package
# schemas:
#   - input: schema.input
package qcos.obligations

import data.data.obligations
import data.qcos.values

# METADATA
# title: All obligations of this decision, in order of their rules
# description: Undefined without rules, and then there is no decision; a lost file must not free a job.
# scope: document
listed := [duty | some duty in duties] if {
	is_object(obligations.rules)
	is_object(obligations.backend_classes)
}

# METADATA
# title: Something that the job is bound to
# description: What it means is the plane's to know; a kind that the plane doesn't know is no decision.
# custom:
#   code: obliged
duties contains duty if {
	not _no_job
	some name, rule in obligations.rules
	not _spared(rule)
	duty := {
		"kind": _text(rule, "kind"),
		"value": _text(rule, "value"),
		"because": concat("", [name, ": ", _text(rule, "because")]),
		"rule": "obligations.obliged",
		"backends": [id | some id in _backends(rule)],
	}
}

# A window of a node has neither evidence nor a choice of backends.
_no_job if {
	input.action != "job:submit"
	is_string(input.action)
}

_spared(rule) if {
	is_array(rule.when.classifications)
	is_string(input.job.classification)
	not input.job.classification in rule.when.classifications
}

_spared(rule) if {
	is_array(rule.when.projects)
	is_string(input.job.project)
	not input.job.project in rule.when.projects
}

# Nobody's department is none of those named.
_spared(rule) if {
	is_array(rule.when.departments)
	department := input.principal.department
	not department in rule.when.departments
}

_spared(rule) if {
	is_array(rule.when.purposes)
	values.label(input.job.purpose)
	not _begins(rule.when.purposes)
}

_spared(rule) if {
	values.natural(rule.when.price_at_least_micros)
	values.natural(input.price.micros)
	input.price.micros < rule.when.price_at_least_micros
}

_begins(prefixes) if {
	some prefix in prefixes
	values.begins(input.job.purpose, prefix)
}

default _text(_, _) := "nothing usable"

_text(rule, key) := rule[key] if values.name(rule[key])

# Those of the class: it is met by what meets all that it demands, so one that demands something unknown has none.
_backends(rule) := {backend.id |
	rule.kind == "backend_class"
	class := obligations.backend_classes[rule.value]
	is_object(class)
	some backend in input.backends
	every demand, wanted in class {
		_meets(demand, wanted, backend)
	}
}

_meets("backends", wanted, backend) if backend.id in wanted

_meets("providers", wanted, backend) if backend.provider in wanted

_meets("regions", wanted, backend) if backend.region in wanted

_meets("zones", wanted, backend) if backend.compliance_zone in wanted

_meets("sovereign", wanted, backend) if {
	is_boolean(wanted)
	backend.sovereign == wanted
}
