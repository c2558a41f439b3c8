# SPDX-License-Identifier: Apache-2.0
"""Windows of nodes that are reserved without a job: asked for, decided, held, ended (N5, N17)."""
