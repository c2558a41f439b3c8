# METADATA
# title: Tests of obligations
# scope: package
package qcos.obligations_test

import data.qcos.main
import data.qcos.obligations
import data.qcos.sample_test as sample

rule := {"kind": "evidence_level", "value": "full", "because": "it is signed on its own"}

under(conditions) := {"rules": {"signed": object.union(rule, {"when": conditions})}, "backend_classes": {}}

duty := {
	"kind": "evidence_level",
	"value": "full",
	"because": "signed: it is signed on its own",
	"rule": "obligations.obliged",
	"backends": [],
}

listed(document, rules) := found if {
	found := obligations.listed with input as document with data.data.obligations as rules
}

class_of(demands) := {
	"rules": {"here": {"kind": "backend_class", "value": "ours", "because": "it stays here"}},
	"backend_classes": {"ours": demands},
}

backends(demands) := result if {
	[one] := listed(sample.document, class_of(demands))
	result := one.backends
}

test_as_shipped_nothing_is_obliged if {
	obligations.listed == [] with input as sample.document
}

test_a_rule_without_conditions_binds_all if {
	listed(sample.document, under({})) == [duty]
	decision := main.decision with input as sample.document with data.data.obligations as under({})
	decision.obligations == [duty]
}

test_a_window_of_a_node_is_no_job if listed(sample.reservation, under({})) == []

test_conditions_that_hold_bind if {
	every conditions in [
		{"classifications": ["internal-restricted", "classified"]},
		{"projects": ["demo"]},
		{"departments": [null]},
		{"purposes": ["production"]},
		{"price_at_least_micros": 520000},
		{"projects": ["demo"], "purposes": ["exploration", "production"]},
	] {
		listed(sample.document, under(conditions)) == [duty]
	}
}

test_a_condition_that_does_not_hold_spares if {
	every conditions in [
		{"classifications": ["public"]},
		{"projects": ["other"]},
		{"departments": ["research"]},
		{"purposes": ["exploration"]},
		{"price_at_least_micros": 520001},
		{"projects": ["demo"], "purposes": ["exploration"]},
	] {
		listed(sample.document, under(conditions)) == []
	}
}

test_a_condition_that_is_not_understood_binds if {
	every conditions in [
		{"clasifications": ["public"]},
		{"classifications": "public"},
		{"projects": {}},
		{"departments": "research"},
		{"purposes": 1},
		{"price_at_least_micros": "1000000"},
		"never",
	] {
		listed(sample.document, under(conditions)) == [duty]
	}
}

test_missing_key_binds if {
	spares := {
		"/job/classification": {"classifications": ["public"]},
		"/job/project": {"projects": ["other"]},
		"/principal/department": {"departments": ["research"]},
		"/job/purpose": {"purposes": ["exploration"]},
		"/price/micros": {"price_at_least_micros": 520001},
	}
	every path, conditions in spares {
		listed(sample.document, under(conditions)) == []
		listed(sample.without(path), under(conditions)) == [duty]
	}
}

test_an_action_that_is_not_there_binds if listed(sample.without("/action"), under({})) == [duty]

test_a_rule_without_words_is_still_there if {
	every broken in [{}, "full", null, {"kind": "", "value": 1, "because": []}] {
		[one] := listed(sample.document, {"rules": {"signed": broken}, "backend_classes": {}})
		one.kind == "nothing usable"
		one.value == "nothing usable"
		one.because == "signed: nothing usable"
	}
}

test_without_rules_there_is_no_decision if {
	every lost in [{}, {"rules": []}, {"rules": {}}, {"backend_classes": {}}, {"rules": [], "backend_classes": {}}] {
		not obligations.listed with input as sample.document with data.data.obligations as lost
		not main.decision with input as sample.document with data.data.obligations as lost
	}
}

test_a_class_holds_what_meets_all_its_demands if {
	every demands in [
		{"sovereign": true},
		{"zones": ["onprem"]},
		{"providers": ["aer", "ibm-quantum"]},
		{"regions": ["local"]},
		{"backends": ["aer"]},
		{"backends": ["aer"], "sovereign": true, "zones": ["onprem"]},
	] {
		backends(demands) == ["aer"]
	}
}

test_a_class_holds_nothing_else if {
	every demands in [
		{"sovereign": false},
		{"sovereign": "true"},
		{"zones": ["us-east"]},
		{"zones": "onprem"},
		{"providers": ["ibm-quantum"]},
		{"regions": []},
		{"backends": ["other"]},
		{"backends": ["aer"], "sovereign": false},
		{"mood": ["good"]},
		"aer",
	] {
		backends(demands) == []
	}
}

test_a_class_that_is_not_there_holds_nothing if {
	[one] := listed(sample.document, {"rules": class_of({}).rules, "backend_classes": {}})
	one.backends == []
}

test_a_backend_that_lacks_a_fact_meets_no_demand if {
	facts := {"id": "backends", "provider": "providers", "region": "regions", "compliance_zone": "zones"}
	every fact, demand in facts {
		rules := class_of({demand: [sample.backend[fact]]})
		[one] := listed(sample.without(concat("", ["/backends/0/", fact])), rules)
		one.backends == []
	}
	[other] := listed(sample.without("/backends/0/sovereign"), class_of({"sovereign": true}))
	other.backends == []
	[last] := listed(sample.without("/backends"), class_of({"sovereign": true}))
	last.backends == []
}
