# SPDX-License-Identifier: Apache-2.0
"""The registry of backends: what workers report, what is kept of it, and what tenants' own jobs say of each."""
