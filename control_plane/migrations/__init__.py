# SPDX-License-Identifier: Apache-2.0
"""The schema as reversible, linear Alembic revisions in plain SQL; `control_plane.provision.migrate` runs them."""
