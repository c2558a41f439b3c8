# SPDX-License-Identifier: Apache-2.0
"""HTTP handlers: thin, no rules. Bytes and credentials become an envelope; values become JSON."""
