# SPDX-License-Identifier: Apache-2.0
"""Parts of a running plane are killed; afterwards ledger, rows and budgets must agree."""
