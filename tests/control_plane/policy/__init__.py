# SPDX-License-Identifier: Apache-2.0
"""Tests of the decision point and its engines."""
