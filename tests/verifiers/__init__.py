# SPDX-License-Identifier: Apache-2.0
"""Verifiers that this project didn't write, held against evidence of a fresh plane: `make test-verifiers` (G3, I4)."""
