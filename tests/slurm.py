# SPDX-License-Identifier: Apache-2.0
"""A real Slurm of one node, on loopback, in a folder of its own: munge, controller and node daemon (issue 4, item 6).

`installed()` says what is missing on this machine, for a test that skips by name. Daemons are ours: started here, ended
here by their process ids. Needs root, because Slurm's node daemon starts jobs as their owner.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
START_S = 60.0
CONFIG = """\
ClusterName=qcos
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SchedulerParameters=batch_sched_delay=0,sched_min_interval=1000,sched_interval=1
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
KillWait=1
MailProg=/bin/true
NodeName={host} NodeAddr=127.0.0.1 NodeHostname={host} CPUs={cpus} RealMemory=8000 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why no Slurm can be started here, or None."""
    absent = [name for name in NEEDED if shutil.which(name, path=_path()) is None]
    if absent:
        return f"Debian's slurm-wlm and munge are not installed ({', '.join(absent)})"
    return None if os.geteuid() == 0 else "a Slurm of our own needs root"


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _free() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def one_node(folder: Path) -> Iterator[Path]:
    """The configuration of a running cluster with the partition `debug`; its state lies in `folder`, short of path."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    config = folder / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    config.write_text(
        CONFIG.format(folder=folder, controller=_free(), node=_free(), host=host, cpus=os.cpu_count()), encoding="utf-8"
    )
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    environment = {**os.environ, "PATH": _path(), "SLURM_CONF": str(config)}
    daemons: list[subprocess.Popen[bytes]] = []
    files = {name: f"--{name}-file={folder}/munged.{name}" for name in ("pid", "log", "seed")}
    munge = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.sock", *files.values()]
    try:
        for command in (munge, ["slurmctld", "-D", "-c"], ["slurmd", "-D"]):
            daemons.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
            time.sleep(0.5)
        _wait(environment)
        yield config
    finally:
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()
            daemon.wait()


def _wait(environment: dict[str, str]) -> None:
    until = time.monotonic() + START_S
    said = ""
    while time.monotonic() < until:
        asked = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"], env=environment, capture_output=True, text=True, check=False
        )
        said = asked.stdout.strip() or asked.stderr.strip()
        if said == "idle":
            return
        time.sleep(0.2)
    raise AssertionError(f"Slurm's node is not idle: {said}")
