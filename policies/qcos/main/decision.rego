# METADATA
# title: Decision
# description: >-
#   Assembles the checks into one closed document. There is no `allow` in it: the plane computes that from the checks
#   that it requires, so that a rule lost here can't allow anything (I5).
# scope: package
# schemas:
#   - input: schema.input
package qcos.main

import data.qcos.access
import data.qcos.attributes
import data.qcos.budget
import data.qcos.classification
import data.qcos.constraints
import data.qcos.obligations
import data.qcos.quota
import data.qcos.residency
import data.qcos.separation

# METADATA
# title: The decision
# description: Undefined if any check is; the plane takes that for "no decision".
# entrypoint: true
decision := {
	"checks": checks,
	"reasons": [reason |
		some denials in denied
		some reason in denials
	],
	"backends": [backend | some backend in residency.usable],
	"nodes": [node | some node in residency.usable_nodes],
	"obligations": obligations.listed,
}

checks := [access.check, separation.check] if {
	_approving
} else := [
	access.check,
	attributes.check,
	constraints.check,
	classification.check,
	residency.check,
	quota.check,
	budget.check,
]

denied := [access.deny, separation.deny] if {
	_approving
} else := [
	access.deny,
	attributes.deny,
	constraints.deny,
	classification.deny,
	residency.deny,
	quota.deny,
	budget.deny,
]

# The job's own checks were made when it was denied, and are made again when it is dispatched.
_approving if input.action == "job:approve"
