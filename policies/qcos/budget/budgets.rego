# METADATA
# title: Budget
# description: >-
#   A job's upper price fits every budget that it touches, such as that a project spends at most 5,000 USD a month (G2);
#   and what is said, or needs an approval, before a budget is spent. Judges a snapshot: the hold in the database is the
#   authority.
# scope: package
# schemas:
#   - input: schema.input
package qcos.budget

import data.qcos.levels
import data.qcos.values

default allow := false

# METADATA
# title: The price fits every budget
# entrypoint: true
allow if {
	priced
	covered
	thresholds_borne
	every budget in input.budgets {
		_holds(budget)
	}
	every reason in deny {
		reason.level == "advisory"
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
		"fix": _room(budget),
	}
}

# METADATA
# title: Most of a budget is spent
# description: With this job, more than `budget_warning_percent` of it.
# custom:
#   code: budget_nearly_spent
deny contains reason if {
	not _without_thresholds
	some reason in _passing("budget_nearly_spent", "budget_warning_percent")
}

# METADATA
# title: The rest of a budget is kept back
# description: With this job, more than `budget_approval_percent` of it would be spent.
# custom:
#   code: budget_reserved
deny contains reason if {
	not _without_thresholds
	some reason in _passing("budget_reserved", "budget_approval_percent")
}

_without_thresholds if {
	input.limits.budget_warning_percent == 100
	input.limits.budget_approval_percent == 100
}

thresholds_borne if _without_thresholds

thresholds_borne if {
	_threshold_borne("budget_nearly_spent", "budget_warning_percent")
	_threshold_borne("budget_reserved", "budget_approval_percent")
}

# No budget would be spent beyond the threshold, or passing it is only said.
_threshold_borne(_, percent) if input.limits[percent] == 100

_threshold_borne(_, percent) if {
	every budget in input.budgets {
		_under(percent, budget)
	}
}

_threshold_borne(code, _) if levels.of(code) == "advisory"

_under(percent, budget) if {
	values.fits(input.limits[percent], 100)
	values.natural(budget.limit_micros)
	values.whole(budget.available_micros)
	values.natural(input.price.micros)
	before := budget.limit_micros - budget.available_micros
	spent := before + input.price.micros
	spent * 100 <= input.limits[percent] * budget.limit_micros
}

# Reasons against each budget beyond the threshold; of a threshold of 100 nothing is said that `budget_exceeded` doesn't.
_passing(_, percent) := set() if input.limits[percent] == 100

_passing(code, percent) := reasons if {
	most := concat("", [values.shown(object.get(input, ["limits", percent], "")), " %"])
	most != "100 %"
	reasons := {reason |
		some budget in input.budgets
		not _under(percent, budget)
		scope := values.shown(object.get(budget, "scope", ""))
		period := values.shown(object.get(budget, "period", ""))
		left := _money(budget, "available")
		reason := {
			"code": code,
			"level": levels.of(code),
			"message": concat("", [
				"budget: with this job more than ", most, " of ", scope, " (", period, ") would be spent; it has ", left,
				" left, the job may cost ", cost,
			]),
			"rule": concat(".", ["budget", code]),
			"want": concat("", ["at most ", most, " of ", _money(budget, "limit")]),
			"have": cost,
			"fix": "ask for fewer shots or a cheaper backend, or have the budget raised",
		}
	}
}

priced if {
	values.natural(input.price.micros)
	values.name(input.price.currency)
}

covered if {
	is_array(input.budgets)
	values.name(input.job.project)
	own := concat("", ["project:", input.job.project])
	some budget in input.budgets
	budget.scope == own
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

default _room(_) := "ask for fewer shots or a cheaper backend, or have the budget raised"

_room(budget) := concat("", ["nothing is converted: choose a backend that is priced in ", budget.currency]) if {
	values.name(budget.currency)
	values.name(input.price.currency)
	budget.currency != input.price.currency
}

cost := _money(input.price, "amount")

project := values.shown(object.get(input, ["job", "project"], ""))

default because := "denied"

# METADATA
# title: Why the check passed
# scope: document
because := concat("", [cost, " fits ", values.listed({budget.scope | some budget in input.budgets})]) if {
	allow
	deny == set()
} else := levels.advice(deny) if {
	allow
}

# METADATA
# title: This package's line in the decision
check := {"name": "budget", "pass": allow, "because": because, "rule": "budget.allow"}
