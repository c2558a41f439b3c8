# METADATA
# title: Values
# description: >-
#   Strict readings of values that may be anything. Rego orders values of all types, so that "many" >= 5 holds;
#   a number is compared only after these. Each is undefined for what isn't what it names.
#   Texts are joined by concat: the embedded engine's sprintf puts quotes around what another built-in made.
#   A number here is at most 2^53 - 1, the largest integer that JSON readers agree on. These are called some thirty
#   times a decision, so each reads its value in one body and calls no other.
# scope: package
package qcos.values

# METADATA
# title: Natural
# description: A whole number that isn't negative.
natural(x) if {
	is_number(x)
	x >= 0
	x <= 9007199254740991
	x == floor(x)
}

# METADATA
# title: Fits
# description: A natural number that is at most a limit. In one body, because most of a decision is this.
fits(x, limit) if {
	is_number(x)
	is_number(limit)
	x >= 0
	x <= limit
	limit <= 9007199254740991
	x == floor(x)
}

# METADATA
# title: Within
# description: What was read as a natural number, or as the text of none, is a number that is at most a limit.
within(read, limit) if {
	is_number(read)
	is_number(limit)
	read <= limit
	limit <= 9007199254740991
}

# METADATA
# title: Room
# description: A natural number and what is asked for on top of it are at most a limit.
room(used, asked, limit) if {
	is_number(used)
	is_number(asked)
	is_number(limit)
	used >= 0
	asked >= 0
	used + asked <= limit
	limit <= 9007199254740991
	used == floor(used)
}

# METADATA
# title: Whole
# description: A whole number, which may be negative.
whole(x) if {
	is_number(x)
	x >= -9007199254740991
	x <= 9007199254740991
	x == floor(x)
}

# METADATA
# title: Name
# description: A string that isn't empty.
name(x) if {
	is_string(x)
	x != ""
}

# METADATA
# title: Label
# description: >-
#   A plain ASCII word. Engines disagree on the lower case of other letters, and a look-alike must not slip past a
#   rule on prefixes.
label(x) if {
	is_string(x)
	regex.match(`^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}$`, x)
}

# METADATA
# title: Begins
# description: A label begins with a prefix, whatever its case.
begins(x, prefix) if {
	label(x)
	startswith(lower(x), prefix)
}

# METADATA
# title: Shown
# description: Any value as text for a message; always defined, so that no denial is lost for want of words.
# scope: document
default shown(_) := "nothing usable"

shown(x) := x if {
	is_string(x)
	x != ""
} else := format_int(x, 10) if {
	whole(x)
}

# METADATA
# title: Listed
# description: A set of texts as one text, in order.
# scope: document
default listed(_) := "none"

listed(texts) := concat(", ", sort(texts)) if texts != set()
