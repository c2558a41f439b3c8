# SPDX-License-Identifier: Apache-2.0
"""Guides typed as they stand: each command of a page, on a plane of its own, and the answers that the page shows."""
