# SPDX-License-Identifier: Apache-2.0
"""Every route says whose its thing is, and can be tried: a route that nobody can try has walls that nobody has seen."""

from __future__ import annotations

from tests.tenants.asking import HOW, PARAMETER, RULES
from tests.tenants.samples import SAMPLES, sample_of
from tests.tenants.world import NOBODY


def test_each_route_can_be_tried() -> None:
    """G13, I7: `qcos access matrix` has the route, and `make test-tenants` asks it in each cell."""
    known = {f"{rule.method} {rule.path}" for rule in RULES}
    assert not [f"{rule.method} {rule.path}" for rule in RULES if sample_of(rule.method, rule.path) is None], HOW
    assert not SAMPLES.keys() - known, "tests/tenants/samples.py: samples of routes that aren't there"


def test_each_thing_that_a_path_names_is_in_the_world() -> None:
    names = {name for rule in RULES if rule.owner is not None for name in PARAMETER.findall(rule.path)}
    wanting = names - NOBODY.keys()
    assert not wanting, f"tests/tenants/world.py: NOBODY and World.fill want an id for {sorted(wanting)}"
