# SPDX-License-Identifier: Apache-2.0
"""One append-only transparency log a plane, and the evidence that rests on it.

The pure part (canonical, chain, merkle, checkpoint, keys, blob, timestamp, bundle, verify) imports with the
base install, so that an auditor needs nothing else. `store` and `export` speak to PostgreSQL, `sealer` is a
process of its own and the only holder of the log and evidence keys. This package imports no other package of
the project.
"""
