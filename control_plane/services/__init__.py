# SPDX-License-Identifier: Apache-2.0
"""Service accounts: principals of the plane's own for pipelines and robots, their keys, and tokens exchanged for them.

An account has roles by assignment as a person has, and no password: a key of its own (`keys`), or the token of a CI
system that a rule gives to it (`exchange`). Everything that changes one is an entry of its tenant (G13, S1).
"""
