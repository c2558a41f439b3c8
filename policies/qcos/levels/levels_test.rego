# METADATA
# title: Tests of levels
# scope: package
package qcos.levels_test

import data.qcos.levels

test_a_code_has_the_level_of_the_data if {
	every level in ["advisory", "soft", "hard"] {
		levels.of("quota_exceeded") == level with data.data.reasons as {"quota_exceeded": level}
	}
}

test_what_the_data_does_not_say_is_hard if {
	every held in [{}, [], null, {"quota_exceeded": "none"}, {"quota_exceeded": ["soft"]}, {"other": "soft"}] {
		levels.of("quota_exceeded") == "hard" with data.data.reasons as held
	}
}

test_advice_is_in_order if levels.advice({{"message": "b"}, {"message": "a"}}) == "a; b"
