# SPDX-License-Identifier: Apache-2.0
"""The commands of `qcos`, one module a group, each with `register(groups)`; heavy imports are inside the functions."""
