# SPDX-License-Identifier: Apache-2.0
"""Providers' invoices: what their columns mean, as data, and how a file becomes lines (G7).

`mapping` reads what says which column means what (the files beside it are those that ship), `table` the file as rows of
text, `lines` the rows as invoice lines. What can't be read in one way only is refused by line and field. Pure.
"""
