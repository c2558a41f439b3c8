# SPDX-License-Identifier: Apache-2.0
"""`make soak`: a thousand jobs from ten users under a budget for half of them."""
