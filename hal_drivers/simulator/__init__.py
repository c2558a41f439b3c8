# SPDX-License-Identifier: Apache-2.0
"""`qcos simulator serve`: a local engine behind HTTPS, so that a plane elsewhere can run on it (S8).

``docs/drivers/remote.md`` is the protocol. The engine, its pool and its walls are those of a worker; what is here keeps
tasks by the plane's token, answers requests and survives whatever they are.
"""
