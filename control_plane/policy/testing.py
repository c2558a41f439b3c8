# SPDX-License-Identifier: Apache-2.0
"""The authors' own tests of a policy set, run by `opa test`, with the coverage of their rules.

Files enter; per package the tests, what failed, and which lines of rules no test reached leave. OPA runs them twice,
because it tells of results or of coverage and never of both. Tests are no part of the embedded engine's dialect: they
need `json.patch` and what else OPA has, so without `opa` there is nothing to run them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from control_plane.policy import tools
from control_plane.policy.fault import Fault

TEST_LIMIT_S = 10
"""For one test; the shipped ones take a millisecond."""

_CPU_S = 60


class Package(Struct, frozen=True):
    """`coverage` is the share of the rules' lines that a test reached, None where the package has tests alone."""

    name: str
    tests: int
    failed: int
    coverage: float | None


class Tested(Struct, frozen=True):
    """`coverage` in percent, over the lines of all rules; None where tests failed, for OPA tells of none then."""

    packages: tuple[Package, ...]
    coverage: float | None
    failures: tuple[Fault, ...]
    unreached: tuple[Fault, ...]


async def tested(files: Mapping[str, bytes], opa: Path) -> Tested:
    """Run them all. What doesn't compile, and an OPA that fails, is a failure with its line."""
    async with tools.laid(files) as folder:
        options = ["--ignore", "schemas", "--format", "json", "--timeout", f"{TEST_LIMIT_S}s"]
        done = await tools.run([opa, "test", ".", *options, "--explain", "notes"], folder, cpu_s=_CPU_S)
        try:
            results = msgspec.json.decode(done.out, type=list[_Result] | None) or []
        except ValueError:
            faults = await tools.strict(opa, folder) or tools.complaints(done, folder, "opa test")
            return Tested((), None, tuple(faults), ())
        if done.timed_out:
            return Tested((), None, (Fault("qcos", 1, "time", f"the tests took longer than {_CPU_S} s of work"),), ())
        failures = tuple(_failure(one) for one in results if one.fail or one.error is not None)
        covered = await tools.run([opa, "test", ".", *options, "--coverage"], folder, cpu_s=_CPU_S)
        try:
            files_covered = msgspec.json.decode(covered.out, type=_Coverage).files
        except ValueError:
            files_covered = {}  # OPA tells of no coverage where a test failed
    return _told(files, results, failures, files_covered)


def _told(
    files: Mapping[str, bytes],
    results: Sequence[_Result],
    failures: tuple[Fault, ...],
    covered: Mapping[str, _File],
) -> Tested:
    lines: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    unreached: list[Fault] = []
    for path in sorted(files):
        if path.endswith(".rego") and not path.endswith("_test.rego"):
            found = covered.get(path, _File())
            reached = {row for span in found.covered for row in span.rows()}
            missed = sorted({row for span in found.not_covered for row in span.rows()} - reached)
            count = lines[path.split("/")[1]]
            count[0] += len(reached)
            count[1] += len(missed)
            unreached += [Fault(path, row, "coverage", "no test reaches this line") for row in missed]
    tests: dict[str, list[_Result]] = defaultdict(list)
    for one in results:
        tests[one.package.removeprefix("data.qcos.").removesuffix("_test")].append(one)
    packages = tuple(
        Package(
            name=name,
            tests=len(tests[name]),
            failed=sum(one.fail or one.error is not None for one in tests[name]),
            coverage=_share(*lines[name]) if name in lines and covered else None,
        )
        for name in sorted({*tests, *lines})
    )
    whole = _share(sum(one[0] for one in lines.values()), sum(one[1] for one in lines.values()))
    return Tested(packages, whole if covered else None, failures, tuple(unreached) if covered else ())


def _share(reached: int, missed: int) -> float:
    """Percent, rounded down to a hundredth: 100 is all."""
    return 100.0 if not missed else int(10000 * reached / (reached + missed)) / 100


def _failure(one: _Result) -> Fault:
    path = one.location.file.removeprefix("./")
    if one.error is None:
        return Fault(path, one.location.row, one.name, "the test fails; opa test . --var-values shows where")
    said = one.error.get("message", "failed") if isinstance(one.error, dict) else str(one.error)
    late = isinstance(one.error, dict) and one.error.get("code") == "eval_cancel_error"
    return Fault(path, one.location.row, one.name, f"took longer than {TEST_LIMIT_S} s" if late else str(said))


class _Place(Struct, frozen=True):
    file: str = ""
    row: int = 1


class _Result(Struct, frozen=True):
    package: str
    name: str
    location: _Place
    fail: bool = False
    error: Any = None


class _Span(Struct, frozen=True):
    start: _Place
    end: _Place

    def rows(self) -> range:
        """Its lines."""
        return range(self.start.row, self.end.row + 1)


class _File(Struct, frozen=True):
    covered: tuple[_Span, ...] = ()
    not_covered: tuple[_Span, ...] = ()


class _Coverage(Struct, frozen=True):
    files: dict[str, _File]
