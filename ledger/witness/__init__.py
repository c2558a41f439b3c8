# SPDX-License-Identifier: Apache-2.0
"""A witness of logs: another person's process that has seen each head of a log, and signs only one history of it.

`rules` (pure) judges a request, `folder` keeps what was seen, `incident` keeps what was refused and why, `server`
speaks C2SP tlog-witness over HTTP. It needs the base install alone and nothing of a plane.
"""
