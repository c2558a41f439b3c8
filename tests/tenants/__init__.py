# SPDX-License-Identifier: Apache-2.0
"""Who gets which answer, and what nobody gets of another tenant: a plane that is asked from outside (G13, I7)."""
