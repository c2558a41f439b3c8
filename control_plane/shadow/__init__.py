# SPDX-License-Identifier: Apache-2.0
"""Shadow mode (G2): a candidate's policies decide again what the ones in force have decided, and act on nothing."""
