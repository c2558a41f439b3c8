# SPDX-License-Identifier: Apache-2.0
"""Money: metered facts, rate cards, budgets that behave like a card (hold, capture, release), and their store.

`facts`, `rates`, `budget` and `money` are pure; `store` holds the SQL. This package writes no ledger entry: each
operation returns the record that its caller puts into one, and `budget.fold` rebuilds the balances from those records.
"""
