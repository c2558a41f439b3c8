# SPDX-License-Identifier: Apache-2.0
"""An administrator's noise as it is written: read from text, file or snapshot, and named by its numbers (issue 4)."""

from __future__ import annotations

from pathlib import Path

from hal_drivers.noise import Noise, read_noise
from tests.hal_drivers.test_aer_methods import NOISE


def test_noise_is_read_from_text_file_and_snapshot(tmp_path: Path) -> None:
    (tmp_path / "lab.json").write_text(NOISE)
    assert read_noise(str(tmp_path / "lab.json")) == read_noise(NOISE)
    assert read_noise("none") is read_noise(None) is None
    hanoi = read_noise("fake_hanoi")
    assert hanoi is not None
    assert 1e-4 < hanoi.depolarizing_1q < 1e-3 < hanoi.depolarizing_2q < 0.05
    assert 0 < hanoi.readout_01 < 0.05


def test_noise_has_the_hash_of_its_numbers() -> None:
    assert Noise(depolarizing_1q=0.1).hash == read_noise('{"depolarizing_1q": 0.1}').hash  # type: ignore[union-attr]
    assert Noise(depolarizing_1q=0.1).hash != Noise(depolarizing_1q=0.2).hash
