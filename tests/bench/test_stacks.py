# SPDX-License-Identifier: Apache-2.0
"""Flame graphs are made of sampled stacks, bounded in bytes, and tell no path of the machine they were made on."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from bench.stacks import MOST_BYTES, by_package, picture, stacks, tree

RAW = """\
_run_code (<frozen runpy>:88);main (control_plane/process.py:39);seal (/somewhere/of/mine/ledger/sealer.py:12) 6
main (control_plane/process.py:41);seal (ledger/sealer.py:14);execute (/x/site-packages/psycopg/cursor.py:9) 3
main (control_plane/process.py:41);dumps (/usr/lib/python3.11/json/__init__.py:9) 1
Thread.run (threading.py:9);_worker (concurrent/futures/thread.py:83) 500
"""


def test_a_frame_is_a_function_wherever_its_line_and_its_machine() -> None:
    root = tree(RAW)
    assert root.total == 10
    assert list(root.below) == ["main (control_plane/process.py)"]
    seal = root.below["main (control_plane/process.py)"].below["seal (ledger/sealer.py)"]
    assert (seal.total, list(seal.below)) == (9, ["execute (psycopg/cursor.py)"])


def test_what_waits_for_work_is_not_counted() -> None:
    assert sum(count for _, count in stacks(RAW)) == 10


def test_shares_are_of_the_package_that_was_running() -> None:
    assert by_package(RAW) == {"ledger": 0.6, "psycopg": 0.3, "python": 0.1}


def test_a_picture_is_bounded_and_tells_no_path() -> None:
    many = "".join(
        f"main (control_plane/process.py:1);f{n % 97}_{n} (/root/secret/{n}.py:3);g (ledger/{n}.py:2) {1 + n % 7}\n"
        for n in range(20_000)
    )
    drawn = picture(many + RAW * 2000, "Where", "what it <shows>")
    assert len(drawn.encode()) <= MOST_BYTES
    assert "/root" not in drawn
    assert "/somewhere" not in drawn
    root = ET.fromstring(drawn)
    assert [element.tag.rpartition("}")[2] for element in root][:2] == ["title", "desc"]
