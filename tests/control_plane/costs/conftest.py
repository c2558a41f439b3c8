# SPDX-License-Identifier: Apache-2.0
"""`desk` and what it wants, as the tests of jobs have them."""

from tests.control_plane.jobs.conftest import desk, driver, pdp

__all__ = ["desk", "driver", "pdp"]
