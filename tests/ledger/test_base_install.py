# SPDX-License-Identifier: Apache-2.0
"""The built wheel without extras verifies a bundle: an auditor needs three light packages and no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

VECTORS = Path(__file__).parent.parent / "vectors" / "bundles"
ROOT = Path(__file__).parents[2]
BASE = ("msgspec", "cryptography", "rfc3161-client", "cffi", "pycparser")
HEAVY = (
    "asyncio",
    "sqlalchemy",
    "litestar",
    "psycopg",
    "aiohttp",
    "qiskit",
    "uvicorn",
    "cryptography",
    "msgspec",
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment with the wheel unpacked and links to nothing but what the wheel requires."""
    pytest.importorskip("hatchling", reason="hatchling is not installed, so no wheel can be built")
    room = tmp_path_factory.mktemp("install")
    build = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    built = subprocess.run(
        [sys.executable, "-c", build, str(room)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    venv.create(room / "env", with_pip=False)
    site = next((room / "env" / "lib").glob("python*")) / "site-packages"
    with zipfile.ZipFile(room / built.stdout.split()[-1]) as wheel:
        wheel.extractall(site)
    for name in BASE:
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # pycparser, where cffi does not ask for it
            continue
        for top in {Path(str(file)).parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            source = Path(str(distribution.locate_file(top)))
            if source.exists() and not (site / top).exists():
                (site / top).symlink_to(source)
    return room / "env"


def run(env: Path, *arguments: str | Path, code: str | None = None) -> subprocess.CompletedProcess[str]:
    program = code or "import sys; from control_plane.cli import main; sys.exit(main(sys.argv[1:]))"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV", "QCOS"))}
    return subprocess.run(
        [str(env / "bin" / "python"), "-c", program, *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=env, env=clean,
    )  # fmt: skip


def test_the_base_install_verifies_a_bundle(installed: Path) -> None:
    """Decision 3, base install: exit 0 for `valid` alone, 1 for the rest, 2 for what cannot be judged."""
    trust: list[str | Path] = ["--trust", VECTORS / "trust.json"]
    valid = run(installed, "verify", VECTORS / "good" / "completed_full.json", *trust)
    assert (valid.returncode, valid.stderr) == (0, "")
    assert valid.stdout.startswith("VALID (external_time), ")
    changed = run(installed, "verify", VECTORS / "bad" / "result_changed.json", *trust)
    assert changed.returncode == 1
    assert changed.stdout.startswith("INVALID output_hash: ")
    foreign = run(installed, "verify", VECTORS / "bad" / "of_another_plane.json", *trust, "--json")
    report = json.loads(foreign.stdout)
    assert (foreign.returncode, report["verdict"]) == (1, "unanchored")
    assert set(report) == {"verdict", "reason", "assurance", "checks", "time", "trust_as_of"}
    assert {frozenset(check) for check in report["checks"]} == {frozenset({"name", "ok", "detail"})}
    unusable = run(installed, "verify", ROOT / "pyproject.toml", *trust)
    assert unusable.returncode == 2
    assert unusable.stderr.startswith("unusable_input: ")
    assert run(installed, "verify", VECTORS / "none.json", *trust).returncode == 2
    assert run(installed, "verify", VECTORS / "trust.json").returncode == 2


def test_verification_opens_no_socket_and_loads_no_server_part(installed: Path) -> None:
    bundle, trust = str(VECTORS / "good" / "denied.json"), str(VECTORS / "trust.json")
    code = f"""
import sys
def audit(event, arguments):
    if event.startswith("socket."):
        raise SystemExit("a socket was touched: " + event)
sys.addaudithook(audit)
from control_plane.cli import main
assert main(["verify", {bundle!r}, "--trust", {trust!r}]) == 0
loaded = set(sys.modules) & {{"asyncio", "sqlalchemy", "psycopg", "aiohttp", "litestar", "uvicorn", "ssl"}}
assert not loaded, loaded
"""
    done = run(installed, code=code)
    assert done.returncode == 0, done.stderr + done.stdout


def test_help_loads_nothing_heavy(installed: Path) -> None:
    """`qcos --help` under 0.3 s and 60 MB: what costs that is not imported."""
    code = f"""
import sys
from control_plane.cli import main
try:
    main(["--help"])
except SystemExit as left:
    assert not left.code
loaded = sorted(set(sys.modules) & set({HEAVY!r}))
assert not loaded, loaded
"""
    done = run(installed, code=code)
    assert done.returncode == 0, done.stderr
    assert "verify" in done.stdout


def test_a_command_that_needs_a_plane_says_what_the_base_install_lacks(installed: Path) -> None:
    code = "import sys; from control_plane.cli import main; sys.exit(main(['ledger', 'verify']))"
    done = run(installed, code=code)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: this install has no ")


def test_the_base_install_reads_rekor_bodies(installed: Path) -> None:
    """docs/evidence-format.md section 2: both types of leaf are verified by the base install."""
    vector = VECTORS.parent / "ledger" / "hashedrekord" / "good_mldsa65.json"
    code = f"""
import base64, json
from ledger.predicate import pae
from ledger.rekor import parse_hashedrekord, verify_hashedrekord
vector = json.load(open({str(vector)!r}))
verify_hashedrekord(parse_hashedrekord(base64.b64decode(vector["leaf"])), pae(base64.b64decode(vector["payload"])))
"""
    done = run(installed, code=code)
    assert done.returncode == 0, done.stderr
