# SPDX-License-Identifier: Apache-2.0
"""Jobs as a site's accounts have them: joined on the Slurm job that submitted or ran them (G6, G7)."""
