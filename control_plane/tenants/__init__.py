# SPDX-License-Identifier: Apache-2.0
"""Tenants of the plane: opened and closed by its operator, limited, shown, exported (G11)."""
