# SPDX-License-Identifier: Apache-2.0
"""A job from envelope to evidence (G9): spec, admission, routing, execution, settlement, proof."""
