# SPDX-License-Identifier: Apache-2.0
"""The children's halves of the engines: translate and run. Loaded by ``child`` alone, behind its walls."""
