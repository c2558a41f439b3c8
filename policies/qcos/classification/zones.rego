# METADATA
# title: Classification
# description: Which backends a classification may run on, by compliance zone and sovereignty (G2, G12).
# scope: package
# schemas:
#   - input: schema.input
package qcos.classification

import data.data.vocabulary
import data.qcos.constraints
import data.qcos.values

default allow := false

# METADATA
# title: A backend is left in a zone that the classification allows
# entrypoint: true
allow if {
	deny == set()
	known
	usable != set()
}

# METADATA
# title: A classification is one of the ladder
# custom:
#   code: classification_unknown
deny contains reason if {
	not known
	wanted := values.listed(object.keys(vocabulary.classifications))
	reason := {
		"code": "classification_unknown",
		"level": "hard",
		"message": concat("", ["classification: ", label, " is none of ", wanted]),
		"rule": "classification.classification_unknown",
		"want": wanted,
		"have": label,
		"fix": concat("", ["state one of: ", wanted]),
	}
}

# METADATA
# title: Classified work stays in its zone
# description: Classified work runs only on sovereign on-premise backends.
# custom:
#   code: zone_required
deny contains reason if {
	known
	not some_usable
	reason := {
		"code": "zone_required",
		"level": "hard",
		"message": concat("", ["classification: ", label, " needs ", level.want, ", ", lying]),
		"rule": "classification.zone_required",
		"want": level.want,
		"have": lying,
		"fix": fix,
	}
}

known if is_object(level)

# METADATA
# title: What the job's classification demands
level := vocabulary.classifications[input.job.classification] if values.name(input.job.classification)

some_usable if usable != set()

# METADATA
# title: Ids of the backends that policy allows
usable := constraints.matching & permitted

# METADATA
# title: Ids of the backends in a zone that the classification allows
permitted contains backend.id if {
	is_array(input.backends)
	some backend in input.backends
	values.name(backend.id)
	_in_zone(backend)
	_sovereign(backend)
}

_in_zone(backend) if {
	is_string(backend.compliance_zone)
	"*" in level.zones
}

_in_zone(backend) if {
	values.name(backend.compliance_zone)
	backend.compliance_zone in level.zones
}

_sovereign(backend) if {
	level.sovereign == false
	is_boolean(backend.sovereign)
}

_sovereign(backend) if {
	level.sovereign == true
	backend.sovereign == true
}

# Told of the backends that the constraints leave, or of all where they leave none.
_told(backend) if backend.id in constraints.matching

_told(_) if count(constraints.matching) == 0

default lying := "no backend is offered"

lying := concat(", ", sort(_places)) if count(_places) > 0

_places contains place if {
	is_array(input.backends)
	some backend in input.backends
	is_object(backend)
	_told(backend)
	place := _place(backend)
}

_place(backend) := concat("", [_id(backend), " lies in ", _zone(backend)]) if not _in_zone(backend)

_place(backend) := concat("", [_id(backend), " in ", _zone(backend), " is not sovereign"]) if {
	_in_zone(backend)
	not _sovereign(backend)
}

_place(backend) := concat("", [_id(backend), " in ", _zone(backend), " does not meet the constraints"]) if {
	_in_zone(backend)
	_sovereign(backend)
}

_id(backend) := values.shown(object.get(backend, "id", ""))

default _zone(_) := "no stated zone"

_zone(backend) := backend.compliance_zone if values.name(backend.compliance_zone)

default fix := "no backend offered passes: ask an administrator for one"

fix := concat(" or ", sort(_ways)) if count(_ways) > 0

_ways contains concat("", ["pin ", backend.id]) if {
	some backend in input.backends
	backend.id in permitted
	constraints.large_enough(backend)
	constraints.provider_allowed(backend)
}

_ways contains concat("", ["allow provider ", backend.provider, " and pin ", backend.id]) if {
	some backend in input.backends
	backend.id in permitted
	constraints.large_enough(backend)
	not constraints.provider_allowed(backend)
	values.name(backend.provider)
}

label := values.shown(object.get(input, ["job", "classification"], ""))

default because := "denied"

# METADATA
# title: Why the check passed
# scope: document
because := concat("", [label, " needs ", level.want, ": ", values.listed(usable)]) if allow

# METADATA
# title: This package's line in the decision
check := {"name": "classification", "pass": allow, "because": because, "rule": "classification.allow"}
