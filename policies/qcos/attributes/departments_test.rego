# METADATA
# title: Tests of attributes
# scope: package
package qcos.attributes_test

import data.qcos.attributes
import data.qcos.sample_test as sample

research(purpose) := json.patch(sample.document, [
	{"op": "replace", "path": "/principal/department", "value": "research"},
	{"op": "replace", "path": "/limits/department/name", "value": "research"},
	{"op": "replace", "path": "/limits/department/purposes", "value": ["benchmark"]},
	{"op": "replace", "path": "/job/purpose", "value": purpose},
])

codes(document) := {reason.code |
	denied := attributes.deny with input as document
	some reason in denied
}

test_no_department_submits_for_all if attributes.allow with input as sample.document

test_research_submits_benchmarks if attributes.allow with input as research("benchmark-q1")

test_research_submits_nothing_else if {
	codes(research("production-benchmark")) == {"purpose_not_allowed"}
	not attributes.allow with input as research("production-benchmark")
}

test_message_says_what_would_pass if {
	some reason in attributes.deny with input as research("exploration")
	reason.message == "attributes: department research may submit for benchmark, the purpose is exploration"
	reason.fix == "state a purpose that begins with one of: benchmark"
}

test_research_may_is_said if {
	attributes.because == "department research may submit for benchmark" with input as research("benchmark")
}

test_limits_of_another_department_allow_nothing if {
	codes(sample.replaced("/principal/department", "sales")) == {"purpose_not_allowed"}
}

test_odd_purpose_is_refused if {
	every purpose in ["", " ", "ｐroduction", "benchmark\u0000x", 1, null, [], {}] {
		codes(sample.replaced("/job/purpose", purpose)) == {"purpose_not_allowed"}
	}
}

test_missing_key_denies if {
	every document in sample.without_each([
		"/principal/department",
		"/principal",
		"/job/purpose",
		"/limits/department/purposes",
		"/limits/department/name",
		"/limits/department/hours",
		"/limits/department/hours/0/always",
		"/limits/department",
		"/limits",
	]) {
		not attributes.allow with input as document
		count(attributes.deny) > 0 with input as document
	}
}

test_an_advisory_purpose_is_said_and_denies_nothing if {
	said := attributes.check with input as research("exploration") with data.data.reasons as {"purpose_not_allowed": "advisory"}
	said.pass == true
	said.because == "attributes: department research may submit for benchmark, the purpose is exploration"
}

days := {"mon": [{"begins": 480, "ends": 1080}], "sat": [{"begins": 0, "ends": 60}, {"begins": 480, "ends": 720}]}

by_day := {"purpose": "*", "always": false, "days": days, "said": "mon 08:00-18:00, sat 00:00-01:00, sat 08:00-12:00"}

never := {"purpose": "production-", "always": false, "days": {}, "said": ""}

at(weekday, minute, hours) := json.patch(sample.document, [
	{"op": "replace", "path": "/time/weekday", "value": weekday},
	{"op": "replace", "path": "/time/minute", "value": minute},
	{"op": "replace", "path": "/limits/department/hours", "value": hours},
])

test_hours_begin_and_end if {
	every moment in [["mon", 480], ["mon", 1079], ["sat", 0], ["sat", 59], ["sat", 480]] {
		attributes.allow with input as at(moment[0], moment[1], [by_day])
	}
	every moment in [["mon", 479], ["mon", 1080], ["sat", 60], ["sat", 720], ["sun", 600], ["tue", 600]] {
		not attributes.allow with input as at(moment[0], moment[1], [by_day])
		codes(at(moment[0], moment[1], [by_day])) == {"outside_hours"}
	}
}

test_the_hours_are_said if {
	some reason in attributes.deny with input as at("sun", 120, [by_day])
	reason.message == concat("", [
		"attributes: a principal without department may submit for production-benchmark ",
		"mon 08:00-18:00, sat 00:00-01:00, sat 08:00-12:00 (UTC), it is 2026-11-21T02:00:00.000Z",
	])
}

test_the_first_line_that_fits_decides if {
	codes(at("mon", 600, [never, by_day])) == {"outside_hours"}
	attributes.allow with input as at("mon", 600, [object.union(never, {"purpose": "research"}), by_day])
	some reason in attributes.deny with input as at("mon", 600, [never, by_day])
	reason.want == "never (UTC)"
}

test_a_moment_or_hours_of_another_type_deny if {
	every odd in [null, "", "480", [], {}, true, -1, 1.5] {
		not attributes.allow with input as at("mon", odd, [by_day])
		not attributes.allow with input as at(odd, 480, [by_day])
		not attributes.allow with input as at("mon", 480, odd)
		not attributes.allow with input as at("mon", 480, [odd])
		days_of_it := [{"op": "replace", "path": "/limits/department/hours/0/days", "value": odd}]
		not attributes.allow with input as json.patch(at("mon", 480, [by_day]), days_of_it)
	}
}

test_missing_time_denies if {
	every path in ["/time/weekday", "/time/minute", "/time"] {
		document := json.patch(at("mon", 480, [by_day]), [{"op": "remove", "path": path}])
		not attributes.allow with input as document
		codes(document) == {"outside_hours"}
	}
}

test_advisory_hours_are_said_and_deny_nothing if {
	said := attributes.check with input as at("sun", 120, [by_day]) with data.data.reasons as {"outside_hours": "advisory"}
	said.pass == true
	startswith(said.because, "attributes: a principal without department may submit for production-benchmark mon")
}
