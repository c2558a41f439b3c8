# SPDX-License-Identifier: Apache-2.0
"""Hostile bundles and trust files, judged one by one with little memory; run as a process of its own.

`python -m tests.ledger.hostile`: prints, as JSON, name → [exit code, reason] of each. The process bounds itself first,
so that what would take all memory or time ends it instead, and no name is printed after that.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from control_plane import cli

BUNDLES = Path(__file__).parents[1] / "vectors" / "bundles"
MEMORY = 1 << 30
SECONDS = 300  # of processor time, for all of them; each takes well under one


def sound() -> dict[str, Any]:
    """A valid bundle's tree."""
    tree: dict[str, Any] = json.loads((BUNDLES / "good" / "completed_full.json").read_bytes())
    return tree


def written(tree: Any) -> bytes:
    """As a plane writes it."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def with_artefact(name: str, content: bytes, **members: Any) -> bytes:
    """The bundle with another content of an artefact, and nothing else put right."""
    tree = sound() | members
    tree["contents"][name] = base64.b64encode(content).decode()
    return written(tree)


def bundles() -> Iterator[tuple[str, bytes]]:
    """Each named, none of them valid."""
    good = (BUNDLES / "good" / "completed_full.json").read_bytes()
    tree = sound()
    yield "empty", b""
    yield "a brace", b"{"
    yield "null", b"null"
    yield "a text", b'"{}"'
    yield "an empty object", b"{}"
    yield "binary", bytes(range(256)) * 64
    yield "not UTF-8", good.replace(b"demo", b"d\xff\xfeo", 1)
    yield "a lone surrogate", good.replace(b"demo", b"\\ud800", 1)
    yield "an overlong encoding", good.replace(b"demo", b"\xc0\xaf", 1)
    yield "UTF-16", good.decode().encode("utf-16")
    yield "NUL bytes", good.replace(b"demo", b"\x00\x00", 1)
    yield "cut in half", good[: len(good) // 2]
    yield "too large", b"{" + b" " * (17 << 20)
    yield "as large as may be", b'{"x":"' + b"a" * ((16 << 20) - 10) + b'"}'
    yield "objects in objects", b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_000
    yield "lists in lists", b'{"a":' + b"[" * 4_000_000
    yield "nesting in a member", good.replace(b'"history":', b'"history":' + b"[" * 100_000, 1)
    yield "a million members", b"{" + b",".join(b'"%d":0' % n for n in range(1_000_000)) + b"}"
    yield "one member a million times", b"{" + b",".join([b'"version":1'] * 1_000_000) + b"}"
    for name, number in {
        "a number of a million digits": b"9" * 1_000_000,
        "an exponent": b"1e999999999",
        "a fraction": b"1.5",
        "NaN": b"NaN",
        "infinity": b"-Infinity",
        "beyond 64 bits": b"18446744073709551616",
        "negative": b"-1",
    }.items():
        yield name, good.replace(b'"shots":1000', b'"shots":' + number, 1)
    yield "an amount of many digits", written(tree | {"cost": tree["cost"] | {"amount": "9" * 100_000}})
    yield "an amount with an exponent", written(tree | {"cost": tree["cost"] | {"amount": "1E+999999"}})
    step = {"at": "2025-01-06T10:00:00.250Z", "state": "QUEUED"}
    yield "a history without end", written(tree | {"history": [step | {"seq": n} for n in range(60_000)]})
    line = tree["cost"]["lines"][0]
    yield "cost lines without end", written(tree | {"cost": tree["cost"] | {"lines": [line] * 60_000}})
    part = tree["artefacts"][0]
    yield "artefacts without end", written(tree | {"artefacts": [part | {"name": str(n)} for n in range(60_000)]})
    proof, signed = tree["proof"], tree["signatures"]
    yield "a path without end", written(tree | {"proof": proof | {"path": ["A" * 43 + "="] * 200_000}})
    yield "a path of 64", written(tree | {"proof": proof | {"path": ["A" * 43 + "="] * 64}})
    yield "hashes of a megabyte", written(tree | {"proof": proof | {"path": ["A" * 1_000_000] * 4}})
    yield "a note of a megabyte", written(tree | {"proof": proof | {"checkpoint": proof["checkpoint"] * 200}})
    sizes = "9" * 4000
    yield (
        "a log of endless size",
        written(tree | {"proof": proof | {"checkpoint": proof["checkpoint"].replace("\n11\n", f"\n{sizes}\n")}}),
    )
    yield "a leaf of megabytes", written(tree | {"proof": proof | {"leaf": "A" * 4_000_000}})
    deep = base64.b64encode(b'{"body":' * 200_000).decode()
    yield "nesting in the leaf", written(tree | {"proof": proof | {"leaf": deep}})
    stamp = signed["timestamp_authority"][0]
    yield "tokens without end", written(tree | {"signatures": signed | {"timestamp_authority": [stamp] * 3_000}})
    for name, der in {
        "a token of megabytes": b"\x30\x83\x30\x00\x00" + b"\0" * 0x300000,
        "a token that nests": b"\x30\x80" * 20_000,
        "a token of endless length": b"\x30\x84\xff\xff\xff\xff" + b"\0" * 100,
        "a token of nothing": b"",
    }.items():
        token = stamp | {"token": base64.b64encode(der).decode()}
        yield name, written(tree | {"signatures": signed | {"timestamp_authority": [token]}})
    yield "a signature of megabytes", written(tree | {"signatures": signed | {"qcos_signature": "A" * 4_000_000}})
    yield "cosignatures without end", written(tree | {"proof": proof | {"cosignatures": ["\u2014 w AAAA"] * 50_000}})
    yield from results()
    for name in sorted(tree):
        odd: dict[str, Any] = {"a number": 7, "a text": "x", "a list": [[]], "an object": {"a": {}}, "true": True}
        for what, value in odd.items():
            yield f"{name} is {what}", written(tree | {name: value})


def results() -> Iterator[tuple[str, bytes]]:
    """Artefacts that claim much in few bytes."""
    items = {"items": [{"item": 0}] * 10_000, "shots": 1}
    program = {"kind": "estimator", "circuits": [{}] * 3_000, "parameters": [{}] * 3_000, "observables": ["X" * 3_000]}
    yield "a result that nests", with_artefact("result", b'{"counts":' * 90_000)
    yield "a result of items", with_artefact("result", written(items))
    yield (
        "a result of huge counts",
        with_artefact("result", b'{"blocks":[],"counts":{"0":' + b"9" * 9000 + b'},"shots":1}'),
    )
    yield "a program of nine million items", with_artefact(
        "result", b'{"items":[],"shots":0}', contents=sound()["contents"] | {
            "spec": base64.b64encode(written({"program": program})).decode()
        }
    )  # fmt: skip
    card = {"version": 1, "currency": "USD", "precision": "1E-999999999", "rounding": "half_even", "prices": []}
    yield "a rate card of endless precision", with_artefact("rate_card", written(card))
    for name in ("plan", "network"):
        yield f"a {name} that nests", with_artefact(name, b'{"plan":' * 90_000)
    content = b'{"plan":{"plan_id":"","program_sha256":"\xed\xa0","fragments":[]}}'
    listed = sound()["artefacts"] + [
        {"name": name, "media_type": "application/json", "sha256": "sha256:" + "0" * 64, "size": 1, "carried": True}
        | {"source": "observed"}
        for name in ("network", "plan")
    ]
    yield "a plan whose text is no UTF-8", with_artefact("plan", content, artefacts=listed)
    network = {"run": {"token": "t", "fragments": []}, "shots": 2**52, "bits": 2**40, "rows": ""}
    yield "a network of 2^52 shots", with_artefact("network", written(network))


def trusts() -> Iterator[tuple[str, bytes]]:
    """Trust files of which none is one."""
    good = (BUNDLES / "trust.json").read_bytes()
    tree = json.loads(good)
    yield "empty", b""
    yield "the bundle", (BUNDLES / "good" / "completed_full.json").read_bytes()
    yield "nesting", b'{"evidence":' * 200_000
    yield "too large", b"{" + b" " * (2 << 20)
    yield "not UTF-8", good.replace(b"plane", b"\xff\xfe", 1)
    yield "a thousand keys of one name", written(tree | {"evidence": tree["evidence"] * 300})
    yield "a key of nothing", written(tree | {"evidence": [tree["evidence"][0] | {"public": ""}]})
    yield "certificates of nothing", written(tree | {"tsa": [tree["tsa"][0] | {"certificates": ["AAAA"]}]})
    yield "a version beyond 64 bits", good.replace(b'"version":1', b'"version":18446744073709551616', 1)
    yield "spaces", good + b"\n"
    for name in sorted(tree):
        odd: dict[str, Any] = {"a number": 7, "null": None, "a list": [[]], "an object": {"a": {}}}
        for what, value in odd.items():
            if (name, what) != ("version", "a number"):
                yield f"{name} is {what}", written(tree | {name: value})


def judged(bundle: bytes, trust: bytes, folder: Path) -> tuple[int, str]:
    """The exit code of `qcos verify` and the line that says why."""
    (folder / "bundle.json").write_bytes(bundle)
    (folder / "trust.json").write_bytes(trust)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(["verify", str(folder / "bundle.json"), "--trust", str(folder / "trust.json")])
    return code, (out.getvalue().partition("\n")[0] or err.getvalue().strip())[:300]


def main() -> None:
    """Bound this process, then judge them all."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    bundle, trust = (BUNDLES / "good" / "completed_full.json").read_bytes(), (BUNDLES / "trust.json").read_bytes()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        said = {"sound": judged(bundle, trust, folder)}
        said |= {f"bundle: {name}": judged(data, trust, folder) for name, data in bundles()}
        said |= {f"trust: {name}": judged(bundle, data, folder) for name, data in trusts()}
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main()
