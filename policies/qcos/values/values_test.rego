# METADATA
# title: Tests of values
# scope: package
package qcos.values_test

import data.qcos.values

test_natural if {
	values.natural(0)
	values.natural(9007199254740991)
	every value in [-1, 1.5, 9007199254740992, "1", null, true, [], {}] {
		not values.natural(value)
	}
}

test_whole_may_be_negative if {
	values.whole(-9007199254740991)
	not values.whole(-9007199254740992)
}

test_name if {
	values.name("x")
	every value in ["", 1, null, true, [], {}] {
		not values.name(value)
	}
}

test_label_is_plain_ascii if {
	values.label("production-benchmark")
	every value in ["", " x", "x y", "x\u0000", "x\n", "é", "-x", 1, null] {
		not values.label(value)
	}
}

test_begins_whatever_the_case if {
	values.begins("PRODUCTION-x", "production")
	not values.begins("x-production", "production")
	not values.begins(null, "production")
}

test_shown_is_always_defined if {
	values.shown("x") == "x"
	values.shown(7) == "7"
	every value in ["", 1.5, null, true, [], {}] {
		values.shown(value) == "nothing usable"
	}
}

test_listed_is_in_order if {
	values.listed({"b", "a"}) == "a, b"
	values.listed(set()) == "none"
}

test_fits_is_at_most_a_natural_number if {
	values.fits(0, 0)
	values.fits(1, 9007199254740991)
	not values.fits(2, 1)
	every odd in [null, true, "", "1", -1, 1.5, 9007199254740992, [], {}] {
		not values.fits(odd, 5)
	}
	every odd in [null, true, "", "1", -1, 9007199254740992, [], {}] {
		not values.fits(0, odd)
		not values.room(0, 0, odd)
	}
}

test_within_is_for_what_was_read_as_a_number if {
	values.within(0, 0)
	not values.within(2, 1)
	not values.within("nothing usable", 5)
	every odd in [null, true, "", "1", "nothing usable", -1, 9007199254740992, [], {}] {
		not values.within(0, odd)
	}
}

test_room_is_for_a_natural_number_and_more if {
	values.room(2, 3, 5)
	not values.room(3, 3, 5)
	not values.room(1.5, 0, 5)
	every odd in [null, true, "", "1", -1, 9007199254740992, [], {}] {
		not values.room(odd, 0, 5)
		not values.room(0, odd, 5)
	}
}
