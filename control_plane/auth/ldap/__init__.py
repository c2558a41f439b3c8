# SPDX-License-Identifier: Apache-2.0
"""People of an LDAP directory or Active Directory sign in with name and password (G13).

Enters a `[[ldap]]` table, a name, a password. Leaves the same `Principal` as any other provider, or a refusal. The
password goes to the directory over TLS that the customer's CA vouches for, and nowhere else: it is kept nowhere, and
stands in no log, entry or error (I10). Importing this imports no LDAP library.
"""
