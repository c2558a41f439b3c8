# SPDX-License-Identifier: Apache-2.0
"""Administrative entries of the ledger, told to a SIEM as OCSF events over TLS syslog (G12, G13)."""
