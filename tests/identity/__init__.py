# SPDX-License-Identifier: Apache-2.0
"""Real identity providers, started for tests on this machine's loopback and ended with them."""
