# SPDX-License-Identifier: Apache-2.0
"""Backup and restore of a whole plane: `take` writes an archive, `restore` judges one and puts it in place (N10)."""
