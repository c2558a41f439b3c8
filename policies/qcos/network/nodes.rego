# METADATA
# title: Network
# description: Nodes of the network, and whether a plan over them stays inside those that are permitted (G2, I8).
# scope: package
# schemas:
#   - input: schema.input
package qcos.network

import data.qcos.values

# METADATA
# title: A backend of the network
# description: It has no place of its own and lies where its nodes lie.
serves(backend) if backend.provider == "p2p"

# METADATA
# title: Each node has a name of its own
# description: Two nodes of one id would lend each other their zones.
distinct if {
	is_array(input.nodes)
	count({node.id |
		some node in input.nodes
		values.name(node.id)
	}) == count(input.nodes)
}

# METADATA
# title: There is no plan yet
unplanned if input.plan == null

# METADATA
# title: There is a plan over some nodes
has_plan if {
	values.name(input.plan.plan_id)
	planned != set()
}

# METADATA
# title: Ids of all nodes that the plan may send anything to
planned contains id if {
	is_array(input.plan.nodes)
	some id in input.plan.nodes
}
