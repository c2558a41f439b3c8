# SPDX-License-Identifier: Apache-2.0
"""Tests of the Rego policies as data: both engines, shape, and what no lost key may do."""
