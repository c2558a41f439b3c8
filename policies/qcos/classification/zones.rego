# METADATA
# title: Classification
# description: Which backends a classification may run on, by compliance zone and sovereignty (G2, G12).
# scope: package
# schemas:
#   - input: schema.input
#   - data.data.vocabulary: schema.vocabulary
package qcos.classification

import data.data.vocabulary
import data.qcos.constraints
import data.qcos.network
import data.qcos.values

default allow := false

# METADATA
# title: A backend is left in a zone that the classification allows
# entrypoint: true
allow if {
	deny == set()
	known
	plan_inside
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
	not some_usable
	known
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

# METADATA
# title: A plan names no node that the classification keeps out
# custom:
#   code: node_outside
deny contains reason if {
	not plan_inside
	known
	reason := {
		"code": "node_outside",
		"level": "hard",
		"message": concat("", ["classification: ", label, " needs ", level.want, ", planned over ", strangers]),
		"rule": "classification.node_outside",
		"want": level.want,
		"have": strangers,
		"fix": "have the circuit planned anew, inside the nodes that policy allows",
	}
}

known if is_object(level)

# METADATA
# title: There is no plan, or each of its nodes is permitted
# scope: document
plan_inside if network.unplanned

plan_inside if {
	network.has_plan
	network.planned - permitted_nodes == set()
}

default strangers := "no node"

strangers := values.listed(_strangers) if count(_strangers) > 0

_strangers contains values.shown(id) if some id in (network.planned - permitted_nodes)

# METADATA
# title: What the job's classification demands
level := vocabulary.classifications[input.job.classification] if values.name(input.job.classification)

some_usable if usable != set()

# METADATA
# title: Ids of the backends that policy allows
usable contains backend.id if {
	some backend in input.backends
	backend.id in constraints.matching
	_placed(backend)
}

# METADATA
# title: Ids of the backends in a zone that the classification allows
permitted contains backend.id if {
	is_array(input.backends)
	some backend in input.backends
	values.name(backend.id)
	_placed(backend)
}

# METADATA
# title: Ids of the nodes in a zone that the classification allows
permitted_nodes contains node.id if {
	network.distinct
	some node in input.nodes
	values.name(node.id)
	_in_zone(node)
	_sovereign(node)
}

# METADATA
# title: Ids of the nodes that policy allows
# description: Empty unless a backend of the network is one of those that are left.
usable_nodes contains id if {
	some id in permitted_nodes
	some backend in input.backends
	network.serves(backend)
	backend.id in usable
}

# Of a backend or a node.
_in_zone(place) if {
	"*" in level.zones
	is_string(place.compliance_zone)
}

_in_zone(place) if {
	values.name(place.compliance_zone)
	place.compliance_zone in level.zones
}

_sovereign(place) if {
	level.sovereign == false
	is_boolean(place.sovereign)
}

_sovereign(place) if {
	level.sovereign == true
	place.sovereign == true
}

_placed(backend) if {
	not network.serves(backend)
	_in_zone(backend)
	_sovereign(backend)
}

_placed(backend) if {
	network.serves(backend)
	permitted_nodes != set()
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

_place(backend) := concat("", [_id(backend), " lies in ", _zone(backend)]) if {
	not network.serves(backend)
	not _in_zone(backend)
}

_place(backend) := concat("", [_id(backend), " in ", _zone(backend), " is not sovereign"]) if {
	not network.serves(backend)
	_in_zone(backend)
	not _sovereign(backend)
}

_place(backend) := concat("", [_id(backend), " in ", _zone(backend), " does not meet the constraints"]) if {
	not network.serves(backend)
	_in_zone(backend)
	_sovereign(backend)
}

_place(backend) := concat("", [_id(backend), " has no node there"]) if {
	network.serves(backend)
	permitted_nodes == set()
}

_place(backend) := concat("", [_id(backend), " has nodes there and does not meet the constraints"]) if {
	network.serves(backend)
	permitted_nodes != set()
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
