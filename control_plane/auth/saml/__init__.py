# SPDX-License-Identifier: Apache-2.0
"""SAML 2.0: an identity provider's answer, brought by a browser, becomes a `Principal` (G13, N13).

The plane is a service provider of the browser profile: its request goes by redirect, the answer comes by POST, the
provider is known by its metadata file, and the plane itself never opens a connection to it. Bytes become a document
(`document`), signatures are judged (`signature`), contents opened (`decryption`), and only what a signature of the
provider covers is read (`response`). The parser, the schemas and the signatures are python3-saml's, lxml's and
xmlsec's, imported late: a plane without SAML doesn't load them. Its `is_valid` isn't asked, and decision 46 says why.
"""
