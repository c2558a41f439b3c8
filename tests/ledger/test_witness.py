# SPDX-License-Identifier: Apache-2.0
"""A witness signs one history of a log: rollback, fork and split view get no signature, are kept and told (I4, G5)."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from control_plane.cli import main
from ledger import checkpoint, cosignature, merkle
from ledger.errors import CheckpointInvalid, CosignatureInvalid, StateLost, UsageError, WitnessHeld
from ledger.trust import parse_trust
from ledger.witness import incident, rules
from ledger.witness.folder import Folder, name_of
from ledger.witness.rules import Seen
from ledger.witness.server import Cosigner, Server
from tests.ledger.plane import T0, Plane

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Log:
    """A log in memory whose signer signs what it is told."""

    def __init__(self, plane: Plane, leaves: int = 0, *, salt: bytes = b"") -> None:
        self.plane, self.hashes = plane, [merkle.leaf_hash(b"%d" % at) for at in range(leaves)]
        self.salt = salt

    def grow(self, count: int) -> Log:
        for _ in range(count):
            self.hashes.append(merkle.leaf_hash(self.salt + b"%d" % len(self.hashes)))
        return self

    def copy(self, size: int, salt: bytes) -> Log:
        other = Log(self.plane, salt=salt)
        other.hashes = self.hashes[:size]
        return other

    def note(self, size: int | None = None, origin: str | None = None) -> bytes:
        found = self.hashes if size is None else self.hashes[:size]
        keys = self.plane.keys
        name = origin or self.plane.origin
        return checkpoint.sign(name, len(found), merkle.root(found), ed25519=keys.log_ed25519, mldsa65=keys.log_mldsa65)

    def request(self, old: int, size: int | None = None) -> bytes:
        new = len(self.hashes) if size is None else size
        edge, nodes = merkle.Edge(), {}
        for found in self.hashes[:new]:
            nodes.update({(level, index): node for level, index, node in edge.append(found)})
        proof = merkle.consistency_proof(old, new, lambda level, index: nodes[level, index]) if 0 < old < new else []
        return rules.request(old, tuple(proof), self.note(new))


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Plane:
    return Plane(tmp_path_factory.mktemp("plane"))


@pytest.fixture
def folder(plane: Plane, tmp_path: Path) -> Folder:
    return Folder.make(tmp_path / "w", name="witness.example/w", trust=parse_trust(plane.trust()), at="2026")


def cosigner(folder: Folder) -> Cosigner:
    return Cosigner(folder, lambda: NOW)


def test_a_log_that_grows_is_cosigned_and_each_line_verifies(plane: Plane, folder: Folder) -> None:
    witness, log = cosigner(folder), Log(plane, 3)
    old = 0
    for size in (3, 4, 300, 300):
        log.grow(size - len(log.hashes))
        status, _, line = witness.add_checkpoint(log.request(old))
        assert status == 200
        found = cosignature.parse(line[:-1])
        cosignature.verify(found, checkpoint.parse(log.note()), folder.witness)
        assert found.at == NOW
        old = size
    served = witness.checkpoint(name_of(plane.origin))
    assert served is not None
    assert served.endswith(line)
    assert folder.incidents() == []


def test_the_status_codes_are_those_of_the_specification(plane: Plane, folder: Folder, tmp_path: Path) -> None:
    witness, log = cosigner(folder), Log(plane, 10)
    note = log.note()

    def status(body: bytes) -> int:
        return witness.add_checkpoint(body)[0]

    assert status(b"") == status(b"old 1") == status(b"old 01\n\n" + note) == status(b"old 0\nx\n\n" + note) == 400
    assert status(b"old 0\n" + b"AAAA\n" * 64 + b"\n" + note) == status(rules.request(11, (), note)) == 400
    assert status(rules.request(0, (), Log(plane, 10).note(origin="other.example/log"))) == 404
    assert status(rules.request(0, (), Log(Plane(tmp_path / "other"), 10).note())) == 403
    assert status(rules.request(0, (), note.replace(b"\n10\n", b"\n11\n"))) == 403
    assert status(rules.request(0, (bytes(32),), note)) == 422
    assert status(rules.request(0, (), note)) == 200
    log.grow(5)
    answer = witness.add_checkpoint(log.request(0))
    assert answer == (409, "text/x.tlog.size", "10\n")
    assert status(rules.request(10, (bytes(32),), log.note())) == 422
    assert status(log.request(10)) == 200
    assert [json.loads(path.read_bytes())["kind"] for path in folder.incidents()] == ["unproven"]


def test_lines_of_others_in_the_note_are_left_out(plane: Plane, folder: Folder) -> None:
    log = Log(plane, 4)
    other = "\u2014 witness.example/other " + "A" * 24 + "\n"
    body = log.request(0)
    assert cosigner(folder).add_checkpoint(body + other.encode())[0] == 200
    seen = folder.seen(plane.origin)
    assert seen is not None
    assert body.endswith(b"\n\n" + seen.note)


def test_a_fork_is_refused_and_kept_as_two_notes_that_a_stranger_can_judge(plane: Plane, folder: Folder) -> None:
    """I4: a split view, a rewritten tail and a forged tree of one size are one thing to a witness."""
    witness, log = cosigner(folder), Log(plane, 10)
    other = log.copy(8, b"another view").grow(2)
    assert witness.add_checkpoint(log.request(0))[0] == 200
    assert witness.add_checkpoint(other.request(0))[0] == witness.add_checkpoint(other.request(10))[0] == 422
    (path,) = folder.incidents()
    found, keys = incident.parse(path.read_bytes()), folder.logs[plane.origin].verifiers
    assert incident.judge(found, keys, []) == f"{plane.origin} signed two trees of 10 entries"
    seen = folder.seen(plane.origin)
    assert seen is not None
    assert seen.head.root == checkpoint.parse(log.note()).root
    assert witness.metrics().count('requests_total{result="refused",of="fork"} 2') == 1
    with pytest.raises(CheckpointInvalid):
        incident.judge(found, (), [])


def test_a_rewritten_tail_that_has_grown_has_no_proof_and_is_kept_as_that(plane: Plane, folder: Folder) -> None:
    witness, log = cosigner(folder), Log(plane, 10)
    assert witness.add_checkpoint(log.request(0))[0] == 200
    other = log.copy(8, b"rewritten").grow(7)
    assert witness.add_checkpoint(other.request(10))[0] == 422
    found = incident.parse(folder.incidents()[0].read_bytes())
    keys = folder.logs[plane.origin].verifiers
    assert "gave no proof that 15 entries begin with its 10" in incident.judge(found, keys, [folder.witness])


def test_a_smaller_head_is_a_rollback_and_stands_by_the_witness_s_line(plane: Plane, folder: Folder) -> None:
    witness, log = cosigner(folder), Log(plane, 10)
    assert witness.add_checkpoint(log.request(0))[0] == 200
    assert witness.add_checkpoint(log.request(0, 6)) == (409, "text/x.tlog.size", "10\n")
    found = incident.parse(folder.incidents()[0].read_bytes())
    keys = folder.logs[plane.origin].verifiers
    assert "showed 6 entries after 10" in incident.judge(found, keys, [folder.witness])
    with pytest.raises(CosignatureInvalid):
        incident.judge(found, keys, [])


def test_an_incident_that_proves_nothing_is_called_so(plane: Plane, folder: Folder) -> None:
    log = Log(plane, 10)
    assert cosigner(folder).add_checkpoint(log.request(0))[0] == 200
    seen = folder.seen(plane.origin)
    assert seen is not None
    log.grow(3)
    asked_with = log.request(10).split(b"\n\n")[0].decode().split("\n")[1:]
    proof = tuple(checkpoint.base64_bytes(line) for line in asked_with)
    honest = rules.Refused(422, "", kind="unproven", note=log.note(), proof=proof)
    with pytest.raises(CheckpointInvalid, match="agree"):
        incident.judge(incident.incident(honest, seen, "2026"), folder.logs[plane.origin].verifiers, [folder.witness])


def test_a_witness_started_again_goes_on_where_it_was(plane: Plane, folder: Folder) -> None:
    log = Log(plane, 5)
    assert cosigner(folder).add_checkpoint(log.request(0))[0] == 200
    again = cosigner(Folder(folder.path))
    assert again.add_checkpoint(log.grow(5).request(0))[0] == 409
    assert again.add_checkpoint(log.request(5))[0] == 200


def test_a_witness_that_lost_its_state_signs_nothing_until_it_is_told(plane: Plane, folder: Folder) -> None:
    """Nothing is signed backwards: what was seen is taken from a line of our own or not at all."""
    log = Log(plane, 5)
    assert cosigner(folder).add_checkpoint(log.request(0))[0] == 200
    seen = folder.seen(plane.origin)
    assert seen is not None
    (path,) = (folder.path / "seen").iterdir()
    for damage in (path.unlink, lambda: path.write_bytes(b"{}"), lambda: path.write_bytes(b"")):
        damage()
        with pytest.raises(StateLost):
            folder.seen(plane.origin)
        witness = cosigner(Folder(folder.path))
        assert witness.add_checkpoint(log.request(0))[0] == 503
        assert witness.lost() == [plane.origin]
        folder.resume(seen)
        assert cosigner(folder).add_checkpoint(log.request(5))[0] == 200


def test_resuming_needs_our_own_line_and_never_goes_back(plane: Plane, folder: Folder) -> None:
    log, witness = Log(plane, 5), cosigner(folder)
    assert witness.add_checkpoint(log.request(0))[0] == 200
    early = folder.seen(plane.origin)
    assert early is not None
    assert witness.add_checkpoint(log.grow(5).request(5))[0] == 200
    with pytest.raises(UsageError):
        folder.resume(early)
    with pytest.raises(CosignatureInvalid):
        folder.resume(Seen(log.grow(1).note(), early.line))


def test_a_folder_is_never_made_over_and_has_one_holder(plane: Plane, folder: Folder) -> None:
    with pytest.raises(UsageError, match="never made over"):
        Folder.make(folder.path, name="witness.example/w", trust=parse_trust(plane.trust()), at="2026")
    with folder.hold(), pytest.raises(WitnessHeld), Folder(folder.path).hold():
        pass
    assert oct((folder.path / "keys" / "witness.pem").stat().st_mode & 0o777) == "0o600"


def test_a_log_under_another_origin_is_a_new_log_and_the_old_one_grows_no_more(plane: Plane, folder: Folder) -> None:
    """After `restore --new-log` the operator hands over a newer trust file; until then the new origin is unknown."""
    witness, log = cosigner(folder), Log(plane, 5)
    second = f"{plane.origin}/2026-11-21-0badc0de"
    assert witness.add_checkpoint(log.request(0))[0] == 200
    assert witness.add_checkpoint(rules.request(0, (), log.note(origin=second)))[0] == 404
    file = json.loads(plane.trust())
    newer = file | {"type": "urn:qcos:trust:v2", "log": file["log"] | {"origin": second, "earlier": [plane.origin]}}
    folder.tell(parse_trust(json.dumps(newer, sort_keys=True, separators=(",", ":")).encode()))
    assert folder.logs[second].after == plane.origin
    assert witness.add_checkpoint(rules.request(0, (), log.note(3, origin=second)))[0] == 200
    assert witness.add_checkpoint(log.request(5))[0] == 200  # as it was: nothing new
    assert witness.add_checkpoint(log.grow(1).request(5))[0] == 422
    assert json.loads(folder.incidents()[0].read_bytes())["kind"] == "ended"


@contextmanager
def serving(folder: Folder) -> Iterator[str]:
    """A witness at a URL, with the system's clock."""
    server = Server(("127.0.0.1", 0), Cosigner(folder, lambda: datetime.now(UTC)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def asked(url: str, body: bytes | None = None) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_over_http_it_cosigns_serves_its_checkpoint_and_counts(plane: Plane, folder: Folder) -> None:
    log = Log(plane, 7)
    with serving(folder) as url:
        assert asked(f"{url}/add-checkpoint", b"x" * 40_000)[0] == 413
        body = log.request(0)
        status, line = asked(f"{url}/add-checkpoint", body)
        assert (status, line[0]) == (200, "\u2014")
        name = hashlib.sha256(plane.origin.encode()).hexdigest()
        assert asked(f"{url}/{name}/checkpoint") == (200, body.decode().split("\n\n", 1)[1] + line)
        assert asked(f"{url}/{'0' * 64}/checkpoint")[0] == asked(f"{url}/nothing")[0] == 404
        assert f'qcos_witness_size{{origin="{plane.origin}"}} 7' in asked(f"{url}/metrics")[1]
        assert asked(f"{url}/health") == (200, "ok\n")
        next((folder.path / "seen").iterdir()).unlink()
        assert asked(f"{url}/health")[0] == asked(f"{url}/{name}/checkpoint")[0] == 503


def test_two_requests_at_once_leave_one_history(plane: Plane, folder: Folder) -> None:
    """tlog-witness: checking the old size and keeping the new head are one step."""
    log = Log(plane, 4)
    witness = cosigner(folder)
    assert witness.add_checkpoint(log.request(0))[0] == 200
    views = [log.copy(4, b"%d" % at).grow(2).request(4) for at in range(6)]
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda body=body: found.append(witness.add_checkpoint(body)[0])) for body in views
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [200, *[422] * 5]


def test_the_command_makes_shows_checks_and_mends_a_witness(
    plane: Plane, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trust, where = tmp_path / "trust.json", tmp_path / "w"
    trust.write_bytes(plane.trust())

    def told(*words: str) -> tuple[int, dict[str, object]]:
        code = main(["witness", *words, "--json"])
        out = capsys.readouterr().out
        return code, json.loads(out) if out else {}

    code, made = told("init", "-o", str(where), "--log-trust", str(trust), "--name", "witness.example/w")
    assert (code, made["name"]) == (0, "witness.example/w")
    assert told("init", "-o", str(where), "--log-trust", str(trust))[0] == 2
    log = Log(plane, 5)
    cosigner(Folder(where)).add_checkpoint(log.request(0))
    served = cosigner(Folder(where)).checkpoint(name_of(plane.origin))
    assert served is not None
    assert told("check", str(where))[0] == 0
    shown = told("show", str(where))[1]["logs"]
    assert isinstance(shown, list)
    assert shown[0]["size"] == 5
    next((where / "seen").iterdir()).unlink()
    assert told("check", str(where))[0] == 1
    (tmp_path / "note").write_text(served)
    assert told("resume", str(where), "--note", str(tmp_path / "note"))[0] == told("check", str(where))[0] == 0
    cosigner(Folder(where)).add_checkpoint(log.copy(3, b"other").grow(2).request(5))
    code, document = told("check", str(where))
    assert code == 1
    incidents = document["incidents"]
    assert isinstance(incidents, list)
    code, judged = told("judge", incidents[0]["file"], "--trust", str(trust))
    assert (code, judged["proven"]) == (0, True)
    assert told("trust", str(where), "--log-trust", str(trust))[0] == 0


def test_run_serves_until_it_is_told_to_stop(plane: Plane, tmp_path: Path) -> None:
    trust, where = tmp_path / "trust.json", tmp_path / "w"
    trust.write_bytes(plane.trust())
    Folder.make(where, name="w", trust=parse_trust(plane.trust()), at="2026")
    words = [
        sys.executable,
        "-m",
        "control_plane.cli",
        "witness",
        "run",
        str(where),
        "--listen",
        "127.0.0.1:0",
        "--json",
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        status, line = asked(f"{told['url']}/add-checkpoint", Log(plane, 5).request(0))
        assert status == 200
        at = cosignature.parse(line[:-1]).at
        assert abs((datetime.now(UTC) - at).total_seconds()) < 600
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert at > T0
