# SPDX-License-Identifier: Apache-2.0
"""FOCUS's own validator, in a virtual environment of its own, and what it says of a file."""
