# METADATA
# title: Levels
# description: >-
#   What a reason weighs, by its code in `data/reasons.json`: advisory (said, and nothing more), soft (denies; a second
#   person may override it) or hard (denies).
# scope: package
# schemas:
#   - data.data.reasons: schema.reasons
package qcos.levels

import data.data.reasons

# METADATA
# title: Of
# description: The level of a code; hard where the data doesn't clearly say otherwise.
# scope: document
default of(_) := "hard"

of(code) := "advisory" if reasons[code] == "advisory"

of(code) := "soft" if reasons[code] == "soft"

# METADATA
# title: Advice
# description: What reasons that deny nothing say, as one text, in order.
advice(said) := concat("; ", sort({reason.message | some reason in said}))
