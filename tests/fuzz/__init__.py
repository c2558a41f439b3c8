# SPDX-License-Identifier: Apache-2.0
"""The outward contracts, asked of a real plane: `qcos up` in a folder of its own, over HTTP, the socket and the CLI."""
