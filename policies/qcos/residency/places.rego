# METADATA
# title: Residency
# description: >-
#   Where a project's work may go: regions and compliance zones of the project, and what each provider may be given by
#   classification, department and region (G2, G12). Of the backends that the classification leaves, it leaves the same
#   or fewer; where that leaves none there is nothing to place, and that check has denied.
# scope: package
# schemas:
#   - input: schema.input
#   - data.data.exports: schema.exports
package qcos.residency

import data.data.exports
import data.qcos.access
import data.qcos.attributes
import data.qcos.classification
import data.qcos.network
import data.qcos.values

default allow := false

# METADATA
# title: A backend is left that the project's work may go to
# entrypoint: true
allow if {
	deny == set()
	plan_inside
	placed
}

# METADATA
# title: A project's work stays in its regions and zones
# custom:
#   code: residency_required
deny contains reason if {
	not some_resident
	something_left
	reason := {
		"code": "residency_required",
		"level": "hard",
		"message": concat("", ["residency: work of ", access.project, " stays in ", home, ", ", lying]),
		"rule": "residency.residency_required",
		"want": home,
		"have": lying,
		"fix": "choose a backend there, or ask an administrator for more regions or zones",
	}
}

# METADATA
# title: A provider is given only what it may be given
# description: By its line in `data/exports.json`, or by that of `*`.
# custom:
#   code: export_denied
deny contains reason if {
	not some_usable
	some_resident
	work := concat("", [classification.label, " of ", attributes.who])
	reason := {
		"code": "export_denied",
		"level": "hard",
		"message": concat("", ["residency: ", givers, " may not be given ", work]),
		"rule": "residency.export_denied",
		"want": concat("", ["a provider that may be given ", work]),
		"have": givers,
		"fix": "allow another provider, or ask an administrator for an export rule",
	}
}

# METADATA
# title: A plan names no node outside of the project's regions and zones
# custom:
#   code: node_away
deny contains reason if {
	not plan_inside
	reason := {
		"code": "node_outside",
		"level": "hard",
		"message": concat("", ["residency: work of ", access.project, " stays in ", home, ", planned over ", strangers]),
		"rule": "residency.node_away",
		"want": home,
		"have": strangers,
		"fix": "have the circuit planned anew, inside the nodes that policy allows",
	}
}

something_left if classification.usable != set()

some_resident if resident != {}

some_usable if usable != set()

placed if some_usable

placed if classification.usable == set()

plan_inside if network.unplanned

# A plan of nothing, or over a node that isn't enrolled, is the classification's to refuse.
plan_inside if {
	is_object(input.plan)
	_away == set()
}

_away contains node.id if {
	some node in input.nodes
	node.id in network.planned
	not _at_home(node)
}

strangers := values.listed({values.shown(id) | some id in _away})

# METADATA
# title: Ids of the backends that policy allows
usable contains id if {
	some id, backend in resident
	line := _line(backend.provider)
	_covers(line.classifications, input.job.classification)
	_covers(line.departments, input.principal.department)
	_covers(line.regions, backend.region)
}

# METADATA
# title: Ids of the nodes that policy allows
# description: Empty unless a backend of the network is one of those that are left.
usable_nodes contains id if {
	some id in _homes
	some backend in input.backends
	network.serves(backend)
	backend.id in usable
}

# METADATA
# title: Backends by id, of those that the classification leaves, in the project's regions and zones
resident[backend.id] := backend if {
	some backend in input.backends
	backend.id in classification.usable
	_housed(backend)
}

_housed(backend) if {
	not network.serves(backend)
	_at_home(backend)
}

# It lies where its nodes lie.
_housed(backend) if {
	network.serves(backend)
	_homes != set()
}

_homes contains node.id if {
	some node in input.nodes
	node.id in classification.permitted_nodes
	_at_home(node)
}

# Of a backend or a node.
_at_home(place) if {
	_covers(_regions, place.region)
	_covers(_zones, place.compliance_zone)
}

# Of a provider, what it may be given.
_line(provider) := object.get(exports, provider, exports["*"]) if values.name(provider)

# Called with a key that was lost it is undefined: who has no department has null.
_covers(words, _) if "*" in words

_covers(words, word) if word in words

home := concat("", ["regions ", values.listed(_regions), ", zones ", values.listed(_zones)])

_regions contains region if {
	is_array(input.limits.regions)
	some region in input.limits.regions
	values.name(region)
}

_zones contains zone if {
	is_array(input.limits.zones)
	some zone in input.limits.zones
	values.name(zone)
}

lying := values.listed({place |
	some backend in input.backends
	backend.id in classification.usable
	place := _place(backend)
})

_place(backend) := concat("", [backend.id, " has no node there"]) if network.serves(backend)

_place(backend) := concat("", [backend.id, " lies in region ", _stated(backend, "region"), ", zone ", zone]) if {
	not network.serves(backend)
	zone := _stated(backend, "compliance_zone")
}

_stated(backend, key) := values.shown(object.get(backend, key, ""))

givers := values.listed({values.shown(object.get(backend, "provider", "")) | some backend in resident})

default because := "denied"

# METADATA
# title: Why the check passed
# scope: document
because := concat("", ["work of ", access.project, " may go to ", values.listed(usable)]) if {
	allow
	some_usable
} else := "no backend is left to place" if {
	allow
}

# METADATA
# title: This package's line in the decision
check := {"name": "residency", "pass": allow, "because": because, "rule": "residency.allow"}
