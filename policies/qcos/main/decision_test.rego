# METADATA
# title: Tests of main
# scope: package
package qcos.main_test

import data.qcos.main
import data.qcos.sample_test as sample

test_all_checks_are_there_once if {
	decision := main.decision with input as sample.document
	[check.name | some check in decision.checks] == [
		"access",
		"attributes",
		"constraints",
		"classification",
		"residency",
		"quota",
		"budget",
	]
	decision.reasons == []
	decision.backends == ["aer"]
	decision.obligations == []
	every check in decision.checks {
		check.pass == true
	}
}

test_each_failed_check_has_its_reason if {
	decision := main.decision with input as {}
	every check in decision.checks {
		check.pass == false
		some reason in decision.reasons
		startswith(reason.rule, concat("", [check.name, "."]))
	}
}
