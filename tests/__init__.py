# SPDX-License-Identifier: Apache-2.0
"""Tests, a mirror of the packages."""
