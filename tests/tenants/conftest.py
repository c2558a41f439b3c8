# SPDX-License-Identifier: Apache-2.0
"""`filled`: one running plane a test process, with one of everything in each of its projects."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tenants.world import World, world


@pytest.fixture(scope="session")
def filled() -> Iterator[World]:
    """A plane shared by the tests of this folder: none of them changes what the world names."""
    with world() as made:
        yield made
