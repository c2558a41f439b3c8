# SPDX-License-Identifier: Apache-2.0
"""Another instance that follows a plane's log: it catches up from tiles and entries and proves that it agrees (S5)."""
