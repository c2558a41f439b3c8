# SPDX-License-Identifier: Apache-2.0
"""Places outside the database that keep heads of the log and that nobody can make forget them.

An anchor is told a signed checkpoint now and then and gives back what it was told; whoever cuts or rewrites the log
contradicts it. `base` has the Protocol and the comparison, `worm` a folder, `locked_bucket` S3 with object lock,
`stamped` an outside RFC 3161 authority whose tokens lie in a folder. When they are told is `ledger.anchoring`.
"""
