# METADATA
# title: Tests of budget
# scope: package
package qcos.budget_test

import data.qcos.budget
import data.qcos.sample_test as sample

codes(document) := {reason.code |
	denied := budget.deny with input as document
	some reason in denied
}

center := object.union(sample.document.budgets[0], {
	"scope": "cost_center:CC-1",
	"available": "0.10",
	"available_micros": 100000,
})

test_denial_without_an_amount_still_denies if {
	document := json.patch(sample.without("/price/amount"), [{
		"op": "replace",
		"path": "/budgets/0/available_micros",
		"value": 0,
	}])
	codes(document) == {"budget_exceeded"}
}

test_price_fits if budget.allow with input as sample.document

test_price_fits_exactly if budget.allow with input as sample.replaced("/budgets/0/available_micros", 520000)

test_month_is_spent if {
	document := json.patch(sample.document, [
		{"op": "replace", "path": "/budgets/0/available", "value": "0.519999"},
		{"op": "replace", "path": "/budgets/0/available_micros", "value": 519999},
	])
	not budget.allow with input as document
	some reason in budget.deny with input as document
	reason.code == "budget_exceeded"
	reason.message == "budget: project:demo (monthly) has 0.519999 USD left, the job may cost 0.52 USD"
}

test_overrun_budget_denies if {
	codes(sample.replaced("/budgets/0/available_micros", -1)) == {"budget_exceeded"}
}

test_every_budget_must_hold if {
	document := json.patch(sample.document, [{"op": "add", "path": "/budgets/-", "value": center}])
	codes(document) == {"budget_exceeded"}
	not budget.allow with input as document
}

test_no_budget_for_the_project if {
	every budgets in [[], [center], {}, null] {
		codes(sample.replaced("/budgets", budgets)) == {"budget_missing"}
	}
}

test_other_currency_does_not_hold if {
	codes(sample.replaced("/budgets/0/currency", "EUR")) == {"budget_exceeded"}
}

test_no_price if codes(sample.replaced("/price", null)) == {"price_unknown"}

test_figures_of_another_type_deny if {
	every value in [null, "9", [], {}, true, 1.5] {
		codes(sample.replaced("/budgets/0/available_micros", value)) == {"budget_exceeded"}
		codes(sample.replaced("/price/micros", value)) == {"price_unknown"}
	}
}

test_because_names_budgets if {
	budget.because == "0.52 USD fits project:demo" with input as sample.document
}

test_missing_key_denies if {
	every document in sample.without_each([
		"/price/micros",
		"/price/currency",
		"/price",
		"/budgets",
		"/budgets/0/scope",
		"/budgets/0/currency",
		"/budgets/0/available_micros",
		"/job/project",
		"/job",
	]) {
		not budget.allow with input as document
		count(budget.deny) > 0 with input as document
	}
}

# 4,000 of 5,000 are spent; the job may cost 0.52.
spent(percents) := json.patch(sample.document, [
	{"op": "replace", "path": "/budgets/0/available", "value": "1000"},
	{"op": "replace", "path": "/budgets/0/available_micros", "value": 1000000000},
	{"op": "replace", "path": "/limits/budget_warning_percent", "value": percents[0]},
	{"op": "replace", "path": "/limits/budget_approval_percent", "value": percents[1]},
])

test_most_of_a_budget_spent_is_said_and_denies_nothing if {
	said := budget.check with input as spent([80, 100])
	said.pass == true
	said.because == concat("", [
		"budget: with this job more than 80 % of project:demo (monthly) would be spent; ",
		"it has 1000 USD left, the job may cost 0.52 USD",
	])
	some reason in budget.deny with input as spent([80, 100])
	reason.code == "budget_nearly_spent"
	reason.level == "advisory"
	reason.want == "at most 80 % of 5000 USD"
}

test_the_rest_of_a_budget_needs_an_approval if {
	not budget.allow with input as spent([80, 80])
	levels := {[reason.code, reason.level] |
		some reason in budget.deny with input as spent([80, 80])
	}
	levels == {["budget_nearly_spent", "advisory"], ["budget_reserved", "soft"]}
}

test_up_to_the_threshold_nothing_is_said if {
	document := json.patch(spent([80, 80]), [{"op": "replace", "path": "/budgets/0/available_micros", "value": 1000520000}])
	budget.allow with input as document
	budget.deny == set() with input as document
	beyond := json.patch(document, [{"op": "replace", "path": "/price/micros", "value": 520001}])
	not budget.allow with input as beyond
}

test_a_threshold_may_be_hard_or_only_said if {
	budget.allow with input as spent([100, 80]) with data.data.reasons as {"budget_reserved": "advisory"}
	every level in ["soft", "hard"] {
		not budget.allow with input as spent([100, 80]) with data.data.reasons as {"budget_reserved": level}
	}
}

test_a_threshold_that_can_not_be_judged_denies if {
	hard := {"budget_nearly_spent": "hard", "budget_reserved": "hard"}
	every path in [
		"/limits/budget_warning_percent",
		"/limits/budget_approval_percent",
		"/budgets/0/limit_micros",
		"/budgets/0/available_micros",
		"/price/micros",
		"/limits",
	] {
		document := json.patch(spent([99, 99]), [{"op": "remove", "path": path}])
		not budget.allow with input as document with data.data.reasons as hard
		denied := budget.deny with input as document with data.data.reasons as hard
		count(denied) > 0
	}
	every odd in [null, "80", [], {}, true, -1, 1.5, 101] {
		not budget.allow with input as spent([odd, 100]) with data.data.reasons as hard
		not budget.allow with input as spent([100, odd])
	}
}

test_a_threshold_of_all_asks_for_no_limit if {
	document := json.patch(spent([80, 100]), [{"op": "remove", "path": "/budgets/0/limit_micros"}])
	budget.allow with input as document
	some reason in budget.deny with input as document
	reason.level == "advisory"
}
