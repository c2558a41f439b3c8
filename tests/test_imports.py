# SPDX-License-Identifier: Apache-2.0
"""Who may import whom (the house of the design): read from the syntax trees, so that no import hides in a function."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"control_plane", "ledger", "hal_drivers", "finops", "policies"}
AWAY = {
    "ledger": {
        "msgspec",
        "sqlalchemy",
        "cryptography",
        "rfc3161_client",
        "psycopg",
        "aiohttp",
        "pkcs11",
        "boto3",
        "botocore",
    },
    "finops": {"msgspec", "sqlalchemy", "pyarrow"},
    "hal_drivers": {
        *("msgspec", "sqlalchemy", "numpy", "psutil", "aiohttp", "cryptography"),
        *("qiskit", "qiskit_aer", "qiskit_ibm_runtime", "braket", "boto3", "botocore", "distributed"),
        *("libp2p", "multiaddr", "trio", "zeroconf"),
    },
}
BASE = {"msgspec", "cryptography", "rfc3161_client"}
AUDITOR = (
    "canonical",
    "merkle",
    "chain",
    "checkpoint",
    "timestamp",
    "bundle",
    "verify",
    "proofs",
    "proved",
    "tlogproof",
    "attack",
    "keys",
    "errors",
)
PURE = (
    "control_plane/auth/source.py",
    "control_plane/auth/workload.py",
    "control_plane/auth/saml/assertion.py",
    "control_plane/auth/saml/decryption.py",
    "control_plane/auth/saml/document.py",
    "control_plane/auth/saml/metadata.py",
    "control_plane/auth/saml/refusals.py",
    "control_plane/auth/saml/response.py",
    "control_plane/auth/saml/schema.py",
    "control_plane/auth/saml/signature.py",
    "control_plane/documents/describe.py",
    "control_plane/documents/glyphs.py",
    "control_plane/documents/page.py",
    "control_plane/documents/proofs.py",
    "control_plane/documents/result.py",
    "control_plane/jobs/state.py",
    "control_plane/jobs/divided.py",
    "control_plane/jobs/fees.py",
    "control_plane/jobs/itemised.py",
    "control_plane/jobs/meaning.py",
    "control_plane/jobs/observables.py",
    "control_plane/jobs/pricing.py",
    "control_plane/jobs/program.py",
    "control_plane/jobs/routing.py",
    "control_plane/network/config.py",
    "control_plane/network/enrolment.py",
    "control_plane/network/topology.py",
    "control_plane/policy/breaker.py",
    "control_plane/policy/fault.py",
    "control_plane/policy/sidecar.py",
    "control_plane/policy/standing.py",
    "control_plane/policy/tokens.py",
    "control_plane/policy/module.py",
    "control_plane/policy/dialect.py",
    "control_plane/policy/builtins.py",
    "control_plane/policy/transcribed.py",
    "control_plane/policy/decision.py",
    "control_plane/policy/impact.py",
    "control_plane/policy/impact_html.py",
    "control_plane/policy/impact_markdown.py",
    "control_plane/policy/impact_text.py",
    "control_plane/policy/recorded.py",
    "control_plane/policy/windows.py",
    "finops/books.py",
    "finops/budget.py",
    "finops/charges.py",
    "finops/spending.py",
    "finops/facts.py",
    "finops/focus/columns.py",
    "finops/focus/selection.py",
    "finops/focus/shape.py",
    "finops/focus/writers.py",
    "finops/holds.py",
    "finops/lint.py",
    "finops/money.py",
    "finops/card.py",
    "finops/places.py",
    "finops/rates.py",
    "finops/reading.py",
    "finops/tariff.py",
    "hal_drivers/constant.py",
    "hal_drivers/counting.py",
    "hal_drivers/device.py",
    "hal_drivers/limits.py",
    "hal_drivers/names.py",
    "hal_drivers/outcome.py",
    "hal_drivers/p2p/aliases.py",
    "hal_drivers/p2p/circles.py",
    "hal_drivers/p2p/draw.py",
    "hal_drivers/p2p/fragments.py",
    "hal_drivers/p2p/adverts.py",
    "hal_drivers/p2p/ir.py",
    "hal_drivers/p2p/registry.py",
    "hal_drivers/p2p/office.py",
    "hal_drivers/p2p/placing.py",
    "hal_drivers/p2p/plan.py",
    "hal_drivers/p2p/planned.py",
    "hal_drivers/p2p/planner.py",
    "hal_drivers/p2p/rows.py",
    "hal_drivers/p2p/states.py",
    "hal_drivers/p2p/words.py",
    "hal_drivers/p2p/wire.py",
    "hal_drivers/p2p/asking.py",
    "hal_drivers/p2p/bounds.py",
    "hal_drivers/p2p/calendar.py",
    "hal_drivers/p2p/leave.py",
    "hal_drivers/p2p/given.py",
    "hal_drivers/p2p/judge.py",
    "hal_drivers/p2p/probe.py",
    "hal_drivers/p2p/quality.py",
    "hal_drivers/p2p/reservation.py",
    "hal_drivers/p2p/run_state.py",
    "hal_drivers/prescan.py",
    "hal_drivers/qpy_header.py",
    "hal_drivers/remote/judge.py",
    "hal_drivers/remote/wire.py",
    "hal_drivers/statements.py",
    "ledger/billed.py",
    "ledger/canonical.py",
    "ledger/chain.py",
    "ledger/documents.py",
    "ledger/cosignature.py",
    "ledger/floor.py",
    "ledger/merkle.py",
    "ledger/proofs.py",
    "ledger/recount.py",
    "ledger/rekor.py",
    "ledger/tlogproof.py",
)
# Tables are reached from here alone; provision and postgres make roles and databases, which no table's owner can.
SQL_HOMES = re.compile(
    r"(?:[a-z]+_)?store\.py|(sealer|document_signer|policy_signer|leader|tables|leases|session|stamping|stored)\.py|(alarm|anchoring|cosigning|outside)\.py|db\.py|postgres\.py|provision\.py|env\.py|losing\.py|0[0-9]{3}_.*\.py"
)
SQL = re.compile(r"(?s)\s*(SELECT\s.*\sFROM\s|INSERT INTO\s|UPDATE\s+\w+\.|DELETE FROM\s|WITH\s+\w+ AS\b)")
IMPURE = {"asyncio", "random", "secrets", "socket", "sqlalchemy", "psycopg", "time", "subprocess", "threading"}


def _files(package: str) -> Iterator[Path]:
    return (path for path in sorted((ROOT / package).rglob("*.py")) if "node_modules" not in path.parts)


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in _imports(path)} - {"__future__"}


@pytest.mark.parametrize("package", sorted(AWAY))
def test_a_package_stands_alone(package: str) -> None:
    for path in _files(package):
        foreign = _tops(path) - set(sys.stdlib_module_names) - {package} - AWAY[package]
        assert not foreign, f"{path.relative_to(ROOT)} imports {sorted(foreign)}"


def test_an_auditor_needs_the_base_install_only() -> None:
    """What `qcos verify` reads needs msgspec, cryptography and rfc3161-client, and nothing else, all the way down."""
    todo, seen = [ROOT / "ledger" / f"{name}.py" for name in AUDITOR], set()
    while todo:
        path = todo.pop()
        if path in seen or not path.exists():
            continue
        seen.add(path)
        # A key that lies in an HSM is opened through pkcs11, which is imported where one is: no auditor has any.
        late = {"pkcs11"} if path.name == "hsm.py" else set()
        foreign = _tops(path) - set(sys.stdlib_module_names) - {"ledger"} - BASE - late
        assert not foreign, f"{path.name} imports {sorted(foreign)}"
        todo += [ROOT / (name.replace(".", "/") + ".py") for name in _imports(path) if name.startswith("ledger.")]


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_has_no_clock_no_chance_no_world(name: str) -> None:
    """S2, S3: what decides is a function of its arguments."""
    assert not _tops(ROOT / name) & IMPURE


@pytest.mark.parametrize("package", ["auth", "policy"])
def test_identity_and_policy_know_nothing_of_jobs(package: str) -> None:
    for path in _files(f"control_plane/{package}"):
        wrong = [n for n in _imports(path) if n.startswith(("control_plane.jobs", "control_plane.api"))]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_jobs_know_of_identity_only_who_somebody_is() -> None:
    for path in _files("control_plane/jobs"):
        wrong = [
            name
            for name in _imports(path)
            if name.startswith("control_plane.api")
            or (name.startswith("control_plane.auth.") and not name.startswith("control_plane.auth.principal"))
        ]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


NAMED = tuple(
    f"hal_drivers.{name}"
    for name in (
        "aer",
        "braket",
        "ibm",
        "aws",
        "dask",
        "slurm",
        "engine",
        "local",
        "near",
        "vendor",
        "remote",
        "p2p.driver",
    )
)


def test_only_the_table_names_drivers() -> None:
    for path in _files("control_plane"):
        wrong = [name for name in _imports(path) if name.startswith(NAMED)]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_sql_stands_in_stores_only() -> None:
    """Each package owns its tables: a statement elsewhere would pass by the store's contract."""
    for package in sorted(OURS):
        for path in _files(package):
            if SQL_HOMES.fullmatch(path.name):
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                found = isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.match(node.value)
                assert not found, f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)} holds SQL"


def test_every_file_says_its_licence_and_its_contract() -> None:
    for package in sorted(OURS):
        for path in _files(package):
            source = path.read_text(encoding="utf-8")
            assert source.startswith("# SPDX-License-Identifier: Apache-2.0\n"), path
            assert ast.get_docstring(ast.parse(source)), path
