# SPDX-License-Identifier: Apache-2.0
"""`desk`, as the tests of jobs have it."""

from __future__ import annotations

from tests.control_plane.jobs.conftest import desk, driver, pdp

__all__ = ["desk", "driver", "pdp"]
