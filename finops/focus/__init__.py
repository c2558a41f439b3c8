# SPDX-License-Identifier: Apache-2.0
"""FOCUS files: a month of charged lines as finance tools read them, and such a file read back and recomputed (G7, G14).

`columns` is the table of what a file has and where each comes from; `shape` makes a file's lines of charged rows;
`writers` makes bytes of them, `reading` reads those back, `recompute` holds them against what evidence gives (`due`).
Pure but for the bytes that they are given; `rows` holds the one query. Arrow is imported where lines are made or read,
and nowhere else.
"""
