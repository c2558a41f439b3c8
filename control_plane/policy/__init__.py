# SPDX-License-Identifier: Apache-2.0
"""Policy decisions (G2): what is decided is Rego under `policies/`; here are the caller and its two engines.

`pdp.Pdp` is the only thing that other packages call. Nothing here knows of jobs, HTTP or the ledger's store.
"""
