# SPDX-License-Identifier: Apache-2.0
"""The people and services of a tenant, as they were seen (G13)."""
