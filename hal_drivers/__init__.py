# SPDX-License-Identifier: Apache-2.0
"""Drivers: how the plane reaches simulators and quantum processors (requirements G9, G14; decision 8).

Import from the modules: ``base`` (Protocols and values), ``errors``, ``prescan``, ``table``. Nothing is
imported here, because the guarded child loads this package too and must stay small.
"""
