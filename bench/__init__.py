# SPDX-License-Identifier: Apache-2.0
"""Measured claims: each module is one command, prints ratios of one run, and keeps no figure by itself."""
