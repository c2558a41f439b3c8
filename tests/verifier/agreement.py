# SPDX-License-Identifier: Apache-2.0
"""Both verifiers over the same files: `qcos verify` in this process, the page's own program under Node.

`python -m tests.verifier.agreement --cases 5000 --seed 1` prints how often each verdict came, and every case in which
the two differ; it ends with 1 if there is one. They agree on a case if the exit is the same, and where there is a
verdict also that, the assurance, the trust's date, and the first check that failed. What a check says in its detail is
its own.
"""

import argparse
import base64
import contextlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from control_plane.cli import main as qcos
from tests.verifier.mutations import Sample, cases

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
CLI = ROOT / "clients" / "verifier" / "cli.mjs"
NODE = shutil.which("node")

Case: TypeAlias = tuple[str, bytes, bytes]
Outcome: TypeAlias = tuple[object, ...]


def samples(folder: Path = VECTORS / "verifier") -> list[Sample]:
    """The bundles of a folder with its `trust.json`: real ones, of each level and end state."""
    trust = json.loads((folder / "trust.json").read_bytes())
    bundles = {
        path.stem: json.loads(path.read_bytes()) for path in sorted(folder.glob("*.json")) if path.stem != "trust"
    }
    return [
        Sample(name, bundle, trust, tuple(other for other_name, other in bundles.items() if other_name != name))
        for name, bundle in bundles.items()
    ]


def statements() -> list[Sample]:
    """Cost statements of a real plane, with bundles beside them whose parts may be put in."""
    bundles = tuple(sample.bundle for sample in samples())
    return [
        Sample(name=one.name, bundle=one.bundle, trust=one.trust, others=bundles)
        for one in samples(VECTORS / "statements")
    ]


def vectors() -> Iterator[Case]:
    """The bundles that lie in tests/vectors, each with the trust file it is judged by."""
    folder = VECTORS / "bundles"
    for path in [*sorted(folder.glob("good/*.json")), *sorted(folder.glob("bad/*.json"))]:
        yield path.name, path.read_bytes(), (folder / "trust.json").read_bytes()
    billed = VECTORS / "billed"
    for path in sorted(billed.glob("[bg]*.json")):
        yield f"billed {path.name}", path.read_bytes(), (billed / "trust.json").read_bytes()
    yield "self_issued", (folder / "self_issued.json").read_bytes(), (folder / "self_issued_trust.json").read_bytes()
    yield (
        "under another's trust",
        (folder / "self_issued.json").read_bytes(),
        (VECTORS / "verifier" / "trust.json").read_bytes(),
    )


def outcome(code: int, report: dict[str, Any] | None) -> Outcome:
    """What both must say of a case."""
    if code not in (0, 1) or report is None or "verdict" not in report:
        return (code,)
    failed = [check["name"] for check in report["checks"] if not check["ok"]]
    reason = next((name for name in failed if report["reason"].startswith(f"{name}: ")), None)
    return (code, report["verdict"], reason, report["assurance"], report["trust_as_of"])


def by_qcos(bundle: bytes, trust: bytes) -> Outcome:
    """`qcos verify --json` on the two files."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        files = (Path(folder) / "bundle.json", Path(folder) / "trust.json")
        files[0].write_bytes(bundle)
        files[1].write_bytes(trust)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            code = qcos(["verify", str(files[0]), "--trust", str(files[1]), "--json"])
        return outcome(code, json.loads(said.getvalue() or "null"))


def by_page(given: Iterable[Case]) -> Iterator[tuple[Case, Outcome]]:
    """The verifier in verify.html on each case, in one process."""
    if NODE is None:
        raise RuntimeError("no node")
    with subprocess.Popen([NODE, str(CLI), "--stream"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipe")
        for case in given:
            files = {
                name: base64.b64encode(data).decode() for name, data in zip(("bundle", "trust"), case[1:], strict=True)
            }
            process.stdin.write(json.dumps(files).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            yield case, outcome(answer["exit"], answer["report"])
        process.stdin.close()


def differences(given: Iterable[Case], seen: Counter[Outcome]) -> Iterator[str]:
    """Each case on which the two differ, in words; every outcome is counted in `seen`."""
    for (what, bundle, trust), page in by_page(given):
        own = by_qcos(bundle, trust)
        seen[own[:3]] += 1
        if own != page:
            yield f"{what}\n  qcos {own}\n  page {page}"


def main(arguments: list[str]) -> int:
    """The programme."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--bundles", type=Path, default=VECTORS / "verifier", help="a folder of bundles with trust.json"
    )
    asked = parser.parse_args(arguments)
    if NODE is None:
        print("no node here: the second verifier can't be run", file=sys.stderr)
        return 1
    seen: Counter[Outcome] = Counter()
    found = 0
    changed = [
        *cases(samples(asked.bundles), asked.cases, asked.seed),
        *cases(statements(), asked.cases // 5, asked.seed),
    ]
    for difference in differences([*vectors(), *changed], seen):
        found += 1
        print(difference, flush=True)
    for kind, number in seen.most_common():
        print(f"{number:6}  exit {' '.join(str(part) for part in kind if part is not None)}")
    print(f"{sum(seen.values())} cases, seed {asked.seed}: {found} on which the two verifiers differ")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
