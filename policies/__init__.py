# SPDX-License-Identifier: Apache-2.0
"""The Rego policies that this plane ships: data files, and this marker by which an installed wheel finds
them.
"""
