# SPDX-License-Identifier: Apache-2.0
"""Money: metered facts, rate cards, budgets that behave like a card (hold, capture, release).


`facts`, `rates`, `budget` and `money` are pure; `store` holds the SQL. This package writes no ledger entry:
each operation returns the section that its caller puts into one, and `books.fold` rebuilds the balances from
those.
"""
