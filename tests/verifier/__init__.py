# SPDX-License-Identifier: Apache-2.0
"""The second verifier (clients/verifier) against `qcos verify`: written apart, they must say the same."""
