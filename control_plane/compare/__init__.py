# SPDX-License-Identifier: Apache-2.0
"""One job on several backends, side by side: statistics, the report's document, and its page (G14)."""
