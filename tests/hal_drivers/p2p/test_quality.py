# SPDX-License-Identifier: Apache-2.0
"""N8, I8: what probes prove of a node, at the error rates that are stated."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal_drivers.engines.node import run_fragment
from hal_drivers.frames import FragmentCall
from hal_drivers.p2p import bounds
from hal_drivers.p2p.aliases import faults, services_of
from hal_drivers.p2p.ir import SERVICES, Service
from hal_drivers.p2p.probe import MEASURE, make, survivals
from hal_drivers.p2p.quality import ALARM, CONFIDENCE, SPAN_LOOKS, LinkSample, Probed, judge, judge_link, law, power


def _exactly_at_least(k: int, n: int, p: Fraction) -> Fraction:
    return sum((comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1)), Fraction(0))


@given(n=st.integers(1, 40), share=st.integers(0, 40), p=st.fractions("1/50", "49/50", max_denominator=50))
def test_the_tail_of_the_binomial_law_is_exact(n: int, share: int, p: Fraction) -> None:
    k = min(share, n)
    assert bounds.at_least(k, n, float(p)) == pytest.approx(float(_exactly_at_least(k, n, p)), rel=1e-9, abs=1e-14)


@given(n=st.integers(1, 60), share=st.integers(0, 60), alpha=st.sampled_from([1e-6, 0.005, 0.01, 0.3]))
def test_a_bound_holds_with_its_confidence_and_no_better_one_does(n: int, share: int, alpha: float) -> None:
    """At the bound itself so many successes have the probability alpha: the definition of Clopper and Pearson."""
    k = min(share, n)
    low = bounds.lower(k, n, alpha)
    if k:
        assert float(_exactly_at_least(k, n, Fraction(low))) == pytest.approx(alpha, rel=1e-6)
    assert bounds.upper(k, n, alpha) == pytest.approx(1 - bounds.lower(n - k, n, alpha))
    assert low <= k / n <= bounds.upper(k, n, alpha)


@pytest.mark.parametrize("service", SERVICES)
@given(seed=st.integers(0, 10**9))
@settings(max_examples=8)
def test_a_perfect_node_survives_every_trial_of_every_probe(service: Service, seed: int) -> None:
    probe = make(service, seed)
    assert not list(faults(probe.circuit.operations, probe.circuit.qubits, probe.circuit.bits))
    memory = run_fragment(FragmentCall(probe.circuit, dict.fromkeys(SERVICES, 1.0), probe.shots, 1))
    survived, trials = survivals(probe, memory.rows)
    assert survived == trials == probe.shots * len(probe.groups)


@pytest.mark.parametrize("service", SERVICES)
def test_survival_follows_the_stated_law(service: Service) -> None:
    """Of the very simulator that nodes run, at five standard deviations of a seeded run."""
    fidelity, m, survived, trials = 0.96, 0.98, 0, 0
    for seed in range(4):
        probe = make(service, seed)
        true = dict.fromkeys(SERVICES, fidelity) | ({MEASURE: m} if service != MEASURE else {})
        memory = run_fragment(FragmentCall(probe.circuit, true, probe.shots, probe.seed))  # type: ignore[arg-type]
        found = survivals(probe, memory.rows)
        survived, trials = survived + found[0], trials + found[1]
    expected = law(service).survival(fidelity, 1.0 if service == MEASURE else m)
    assert abs(survived / trials - expected) < 5 * (expected * (1 - expected) / trials) ** 0.5


def test_a_probe_is_a_function_of_its_seed_and_no_two_are_alike() -> None:
    assert make("cnot", 5) == make("cnot", 5)
    assert len({make("cnot", seed).circuit for seed in range(50)}) == 50
    assert {make("cnot", seed).shots for seed in range(50)} == {500, 1_000, 1_024, 2_000}


@pytest.mark.parametrize("service", SERVICES)
def test_a_probe_needs_nothing_but_its_service_and_measurement(service: Service) -> None:
    assert set(services_of(make(service, 1).circuit.operations)) == {service, MEASURE}


def test_a_node_too_small_for_a_probe_is_not_probed() -> None:
    assert make("cnot", 1, qubit_max=2).circuit.qubits == 2
    with pytest.raises(ValueError, match="2 qubits"):
        make("cnot", 1, qubit_max=1)


@pytest.mark.parametrize("service", [one for one in SERVICES if one != MEASURE])
@pytest.mark.parametrize("fidelity", [1.0, 0.99, 0.9, 0.6])
def test_survival_and_fidelity_are_each_others_inverse(service: Service, fidelity: float) -> None:
    rule = law(service)
    assert rule.fidelity(rule.survival(fidelity, 0.97), 0.97) == pytest.approx(fidelity, abs=1e-9)


def _probes(
    rng: np.random.Generator, service: Service, has: float, says: float, m: float, number: int, trials: int = 3_000
) -> list[Probed]:
    chance = law(service).survival(has, m)
    return [Probed(int(rng.binomial(trials, chance)), trials, int(says * 1e6)) for _ in range(number)]


@pytest.mark.parametrize("service", ["cnot", "bell_pair", "distillation"])
def test_the_bound_is_below_the_truth_as_often_as_stated(service: Service) -> None:
    """Sixty nodes: each bound fails with 1 % at most, so that five failures or more have a chance below 0.001."""
    assert bounds.at_least(5, 60, 1 - CONFIDENCE) < 1e-3
    rng, above, found = np.random.default_rng(3), 0, []
    for _ in range(60):
        measured = _probes(rng, MEASURE, 0.99, 0.99, 1.0, 4)
        verdict = judge(service, _probes(rng, service, 0.97, 0.97, 0.99, 4), measured)
        assert verdict.verified_ppm is not None
        above += verdict.verified_ppm > 970_000
        found.append(verdict.verified_ppm)
        assert not verdict.overstates
    assert above < 5
    assert np.mean(found) > 955_000  # and it is of use


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("honest", [0.999, 0.99, 0.9])
def test_an_honest_node_is_accused_once_in_a_thousand_looks_with_one_percent_at_most(
    service: Service, honest: float
) -> None:
    """Exact, by the law itself; a look's other half of the chance goes to the probes since the newest claim."""
    for trials in (1_500, 15_000, 60_000):
        m = 1.0 if service == MEASURE else 0.99
        assert 2 * power(service, honest, honest, trials, m) <= ALARM
    assert SPAN_LOOKS * ALARM <= 0.01


@pytest.mark.parametrize("service", SERVICES)
def test_who_says_99_and_has_95_is_found_out_within_a_window(service: Service) -> None:
    """Each probe has 1,500 trials at least: by the first for all but `bell_pair`, which takes up to ten (15,000)."""
    m = 1.0 if service == MEASURE else 0.99
    needed = 15_000 if service == "bell_pair" else 1_500
    assert power(service, 0.99, 0.95, needed, m) > 0.999


def test_an_overstating_node_is_degraded_and_its_bound_is_what_it_has() -> None:
    rng = np.random.default_rng(5)
    measured = _probes(rng, MEASURE, 0.99, 0.99, 1.0, 20)
    verdict = judge("cnot", _probes(rng, "cnot", 0.95, 0.99, 0.99, 1), measured)
    assert verdict.overstates
    assert verdict.verified_ppm is not None
    assert 930_000 < verdict.verified_ppm < 950_000
    assert "it says 0.990000" in verdict.reason


def test_who_raises_its_claim_is_not_judged_by_what_it_was_before() -> None:
    rng = np.random.default_rng(6)
    measured = _probes(rng, MEASURE, 0.99, 0.99, 1.0, 20)
    before = _probes(rng, "cnot", 0.95, 0.95, 0.99, 18)
    assert not judge("cnot", [*before, *_probes(rng, "cnot", 0.99, 0.99, 0.99, 2)], measured).overstates
    assert judge("cnot", [*before, *_probes(rng, "cnot", 0.95, 0.99, 0.99, 2)], measured).overstates


def test_nothing_is_verified_by_too_few_trials() -> None:
    few = [Probed(499, 500, 990_000)]
    many = [Probed(2_990, 3_000, 990_000)]
    assert judge("cnot", few, many).verified_ppm is None
    assert judge("cnot", many, few).verified_ppm is None
    assert judge("cnot", [], []).verified_ppm is None
    assert judge("cnot", many, many).verified_ppm is not None


def test_a_bad_measurement_excuses_its_share_and_no_more() -> None:
    """The same survivals prove more of a node whose measurement is known to be worse."""
    probes = [Probed(2_400, 3_000, 990_000)]
    good = judge("cnot", probes, [Probed(29_990, 30_000, 999_000)])
    poor = judge("cnot", probes, [Probed(28_500, 30_000, 950_000)])
    assert good.verified_ppm is not None
    assert poor.verified_ppm is not None
    assert poor.verified_ppm > good.verified_ppm
    alone = judge(MEASURE, [Probed(28_500, 30_000, 950_000)], [])
    assert alone.verified_ppm == pytest.approx(947_000, abs=1_500)


def test_a_link_is_degraded_beyond_doubt_or_when_it_is_slow() -> None:
    well, lost = LinkSample(2_000), LinkSample(None)
    assert judge_link([], 50_000, 50_000).state == "unknown"
    assert judge_link([well] * 100, 50_000, 50_000).state == "good"
    assert judge_link([well] * 97 + [lost] * 3, 50_000, 50_000).state == "good"
    assert judge_link([well] * 80 + [lost] * 20, 50_000, 50_000).state == "degraded"
    assert judge_link([LinkSample(80_000)] * 100, 50_000, 50_000).state == "degraded"
    assert judge_link([lost] * 10, 50_000, 50_000).latency_us is None
