# METADATA
# title: Budget
# description: >-
#   A job's upper price fits every budget that it touches, such as that a project spends at most 5,000 USD a month (G2).
#   Judges a snapshot: the hold in the database is the authority.
# scope: package
# schemas:
#   - input: schema.input
package qcos.budget

import data.qcos.values

default allow := false

# METADATA
# title: The price fits every budget
# entrypoint: true
allow if {
	deny == set()
	priced
	covered
	every budget in input.budgets {
		_holds(budget)
	}
}

# METADATA
# title: A job without a price is not run
# custom:
#   code: price_unknown
deny contains reason if {
	not priced
	reason := {
		"code": "price_unknown",
		"level": "hard",
		"message": "budget: no price is known for this job",
		"rule": "budget.price_unknown",
		"want": "a price",
		"have": "none",
		"fix": "choose a backend that a rate card prices",
	}
}

# METADATA
# title: A project without a budget spends nothing
# custom:
#   code: budget_missing
deny contains reason if {
	not covered
	reason := {
		"code": "budget_missing",
		"level": "hard",
		"message": concat("", ["budget: project ", project, " has no budget"]),
		"rule": "budget.budget_missing",
		"want": "a budget for the project",
		"have": "none",
		"fix": concat("", ["qcos budget set project:", project, " AMOUNT CURRENCY --period monthly"]),
	}
}

# METADATA
# title: Every budget holds the job's upper price
# custom:
#   code: budget_exceeded
deny contains reason if {
	priced
	covered
	some budget in input.budgets
	not _holds(budget)
	scope := values.shown(object.get(budget, "scope", ""))
	period := values.shown(object.get(budget, "period", ""))
	left := _money(budget, "available")
	reason := {
		"code": "budget_exceeded",
		"level": "hard",
		"message": concat("", ["budget: ", scope, " (", period, ") has ", left, " left, the job may cost ", cost]),
		"rule": "budget.budget_exceeded",
		"want": concat("", ["at most ", left]),
		"have": cost,
		"fix": "ask for fewer shots or a cheaper backend, or have the budget raised",
	}
}

priced if {
	values.natural(input.price.micros)
	values.name(input.price.currency)
}

covered if {
	is_array(input.budgets)
	values.name(input.job.project)
	some budget in input.budgets
	budget.scope == concat("", ["project:", input.job.project])
}

_holds(budget) if {
	values.name(budget.scope)
	budget.currency == input.price.currency
	values.whole(budget.available_micros)
	input.price.micros <= budget.available_micros
}

default _money(_, _) := "nothing usable"

_money(holder, field) := concat("", [holder[field], " ", holder.currency]) if {
	values.name(holder[field])
	values.name(holder.currency)
}

cost := _money(input.price, "amount")

project := values.shown(object.get(input, ["job", "project"], ""))

default because := "denied"

# METADATA
# title: Why the check passed
# scope: document
because := concat("", [cost, " fits ", values.listed({budget.scope | some budget in input.budgets})]) if allow

# METADATA
# title: This package's line in the decision
check := {"name": "budget", "pass": allow, "because": because, "rule": "budget.allow"}
