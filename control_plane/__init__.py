# SPDX-License-Identifier: Apache-2.0
"""The control plane: the only package that knows the ledger, the drivers, the money and the policies.

Nothing is imported here, so that `qcos --help` and an auditor's `qcos verify` stay light.
"""

__version__ = "0.1.0"
