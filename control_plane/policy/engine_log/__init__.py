# SPDX-License-Identifier: Apache-2.0
"""OPA's decision log, masked, as a bounded copy whose losses are counted (G2, I10)."""
