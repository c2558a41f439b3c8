# SPDX-License-Identifier: Apache-2.0
"""Evidence as a document for people: a PDF that is signed, stamped, kept, and told of in the ledger (G3, G4)."""
