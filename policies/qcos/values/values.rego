# METADATA
# title: Values
# description: >-
#   Strict readings of values that may be anything. Rego orders values of all types, so that "many" >= 5 holds;
#   a number is compared only after these. Each is undefined for what isn't what it names.
#   Texts are joined by concat: the embedded engine's sprintf puts quotes around what another built-in made.
# scope: package
package qcos.values

# METADATA
# title: The largest integer that JSON readers agree on
# description: 2^53 - 1
largest := 9007199254740991

# METADATA
# title: Natural
# description: A whole number from 0 to `largest`.
natural(x) if {
	whole(x)
	x >= 0
}

# METADATA
# title: Whole
# description: A whole number between -`largest` and `largest`.
whole(x) if {
	is_number(x)
	x <= largest
	x >= 0 - largest
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

shown(x) := x if name(x)

shown(x) := format_int(x, 10) if whole(x)

# METADATA
# title: Listed
# description: A set of texts as one text, in order.
# scope: document
listed(texts) := concat(", ", sort(texts)) if count(texts) > 0

listed(texts) := "none" if count(texts) == 0
