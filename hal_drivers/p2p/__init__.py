# SPDX-License-Identifier: Apache-2.0
"""The network of quantum services: labs offer operations over libp2p, the plane plans, reserves, runs and proves."""
