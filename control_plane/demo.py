# SPDX-License-Identifier: Apache-2.0
"""`make demo`: one governed job on a plane of its own, from sign-in to a verdict that needs no plane.

Everything is done through `qcos` as a person would type it; each line is shown when it has become true. Leaves the
bundle and the trust file in `.qcos-demo`, and nothing running. Exit code 1 where any step fails.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HOME = Path(".qcos-demo")
SPEC = Path(__file__).resolve().parents[1] / "examples" / "bell.json"
BAR = 12


class StepFailed(Exception):
    """A step did not do what it should."""


def main() -> int:
    """Run the six steps; whatever happens, the plane is stopped."""
    try:
        try:
            _steps()
        finally:
            _quiet("down")
    except StepFailed as failed:
        sys.stderr.write(f"demo: {failed}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _steps() -> None:
    begun = time.monotonic()
    _ask("up", "--detach")
    _tell("[1/6] plane", f"up in {time.monotonic() - begun:.1f} s on a free port, ./{HOME}")
    _ask("login", "--as", "engineer")
    who = _ask("whoami")
    _tell("[2/6] sign in", f"{who['actor'].partition(':')[2]} ({', '.join(who['roles'])})")
    job = _ask("submit", str(SPEC), "--wait")
    checks = job["decision"]["checks"]
    passed = sum(check["result"] == "pass" for check in checks)
    held, currency = job["cost"]["held"], job["cost"]["currency"]
    _tell(
        "[3/6] submit", f"{job['job_id']}  ALLOWED by {passed} of {len(checks)} checks, held {_short(held)} {currency}"
    )
    counts: dict[str, int] = _ask("result", job["job_id"])["quantum_result"]["counts"]
    _tell("[4/6] result", f"{_bars(counts)}   {sum(counts.values()):,} shots on {job['backend']}")
    bundle, trust = HOME / "bell.json", HOME / "trust.json"
    _ask("evidence", "get", job["job_id"], "-o", str(bundle))
    _ask("trust", "export", "-o", str(trust))
    _tell("[5/6] evidence", _describe(json.loads(bundle.read_bytes())) + f" → ./{bundle}")
    report = _ask("verify", str(bundle), "--trust", str(trust))
    verdict = f"{report['verdict'].upper()} ({report['assurance']}), {len(report['checks'])} checks"
    _tell("[6/6] verify", f"offline, no socket opened: {verdict}")
    _tell("      tampered", f"one digit of a count changed: {_tampered(bundle, trust)}")
    released = f"{float(held) - float(job['cost']['amount']):.2f}"
    sys.stdout.write(
        f"Cost {_short(job['cost']['amount'])} {currency} ({released} released). "
        "Next: .venv/bin/qcos up · docs/guide-engineer.md\n"
    )


def _describe(bundle: dict[str, Any]) -> str:
    leaf = json.loads(base64.b64decode(bundle["proof"]["leaf"]))
    signed = bundle["signatures"]
    signatures = sum(signed[name] is not None for name in ("qcos_signature", "ecdsa_p256_signature"))
    operators = {stamp["operator"] for stamp in signed["timestamp_authority"]}
    time_of = "external time" if "external" in operators else "self-issued time"
    return f"entry #{leaf['index']}, {signatures} signatures, {time_of}"


def _tampered(bundle: Path, trust: Path) -> str:
    """Change one digit of the result and ask again: the verdict must name what failed."""
    document = json.loads(bundle.read_bytes())
    result = base64.b64decode(document["contents"]["result"])
    at = next(i for i, byte in enumerate(result) if chr(byte).isdigit() and result[i - 1 : i] == b":")
    changed = result[:at] + (b"1" if result[at : at + 1] != b"1" else b"2") + result[at + 1 :]
    document["contents"]["result"] = base64.b64encode(changed).decode()
    copy = HOME / "tampered.json"
    copy.write_text(json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False), encoding="utf-8")
    answer = _run("verify", str(copy), "--trust", str(trust), "--json")
    report = json.loads(answer.stdout or "{}")
    failed = [check["name"] for check in report.get("checks", ()) if not check["ok"]]
    if answer.returncode != 1 or report["verdict"] != "invalid" or not failed:
        raise StepFailed("a changed bundle was not called invalid")
    return f"INVALID {failed[0]}"


def _bars(counts: dict[str, int]) -> str:
    most = max(counts.values())
    return "   ".join(f"{bits} {'█' * (BAR * n // most)} {n}".replace("  ", " ") for bits, n in sorted(counts.items()))


def _short(amount: str) -> str:
    return f"{float(amount):.2f}"


def _ask(*words: str) -> Any:
    answer = _run(*words, "--json")
    if answer.returncode != 0:
        said = answer.stderr.strip().splitlines() or ["no word of why"]
        raise StepFailed(f"qcos {' '.join(words)}: {_problem(said[-1])}")
    return json.loads(answer.stdout)


def _problem(line: str) -> str:
    try:
        document = json.loads(line)
        return f"{document['code']}: {document['detail']}"
    except (ValueError, KeyError, TypeError):
        return line


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QCOS_")}
    environment |= {"QCOS_HOME": str(HOME), "QCOS_HTTP_PORT": "0"}
    for name in ("QCOS_OPA_BIN", "QCOS_POLICY_ENGINE"):
        if name in os.environ:
            environment[name] = os.environ[name]
    command = [sys.executable, "-m", "control_plane.cli", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def _quiet(*words: str) -> None:
    _run(*words, "--json")


def _tell(label: str, text: str) -> None:
    sys.stdout.write(f"{label:<17}{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
