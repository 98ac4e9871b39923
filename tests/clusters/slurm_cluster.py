"""A whole Slurm cluster of one node, as processes of this test on loopback: munged, slurmctld and slurmd.

The daemons need root, or a user's own munge; no systemd, no cgroups, no accounting. Nothing of the machine's
own configuration is read or written: SLURM_CONF names a file in the test's folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "squeue", "scancel", "scontrol", "sbatch", "srun")

CONFIG = """
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,sched_min_interval=0
ReturnToService=2
KillWait=2
MailProg=/bin/true
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
"""


def missing() -> str:
    """Why no cluster can be started here; empty where one can."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if absent:
        return f"no {', '.join(absent)} here; `make test-slurm` installs Debian's slurm-wlm"
    return "" if os.geteuid() == 0 else "slurmd starts jobs as their users, which needs root"


class Cluster:
    """The daemons, and the environment in which Slurm's commands find them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._host = socket.gethostname().partition(".")[0]
        self._daemons: list[subprocess.Popen[bytes]] = []
        self.conf = folder / "slurm.conf"
        self.env: Mapping[str, str] = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SLURM")},
            "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
            "SLURM_CONF": str(self.conf),
        }

    def start(self) -> None:
        """Start the daemons and wait until the node takes jobs.

        Raises:
            RuntimeError: it does not within 30 s; the daemons' logs say why.
        """
        munge = self._folder / "munge"
        for name in ("munge", "state", "spool"):
            (self._folder / name).mkdir(mode=0o755)
        key = munge / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        controller, node = _port(), _port()
        text = CONFIG.format(
            host=self._host, folder=self._folder, controller=controller, node=node, cpus=os.cpu_count()
        )
        self.conf.write_text(text, encoding="ascii")
        places = {"socket": "socket", "log-file": "log", "pid-file": "pid", "seed-file": "seed"}
        options = [f"--{name}={munge / file}" for name, file in places.items()]
        self._start("munged", "--foreground", "--force", f"--key-file={key}", *options)
        _until((munge / "socket").exists, self.logs)
        self._start("slurmctld", "-D", "-c")
        _until(lambda: self.run("sinfo").returncode == 0, self.logs)
        self._start("slurmd", "-D", "-N", self._host)
        _until(lambda: self.run("sinfo", "-h", "-o", "%t").stdout.strip() == "idle", self.logs)

    def stop(self) -> None:
        """End every job, then the daemons, and wait for them."""
        self.run("scancel", "--state=RUNNING", "--state=PENDING", "--quiet")
        deadline = time.monotonic() + 5
        while self.run("squeue", "-h").stdout.strip() and time.monotonic() < deadline:
            time.sleep(0.1)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            try:
                daemon.wait(5)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for process in Path("/proc").glob("[0-9]*"):  # a step whose node daemon went first waits for ever
            with contextlib.suppress(OSError):
                if f"SLURM_CONF={self.conf}".encode() in (process / "environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)

    def pause(self) -> None:
        """Stop the controller: every command of Slurm's hangs until `go_on`."""
        self._daemons[1].send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let the controller go on."""
        self._daemons[1].send_signal(signal.SIGCONT)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run one of Slurm's commands."""
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=20, check=False)

    def submit(self, script: Path, *arguments: str, options: Sequence[str] = ()) -> str:
        """Submit a batch script; returns the job's number once it runs."""
        output = ["-n1", "--output", str(self._folder / "job-%j.out"), "--chdir", str(Path.cwd())]
        said = self.run("sbatch", "--parsable", *output, *options, str(script), *arguments)
        assert said.returncode == 0, said.stderr
        job = said.stdout.strip()
        _until(lambda: self.state(job) == "RUNNING", self.logs)
        return job

    def state(self, job: str) -> str:
        """What squeue says of a job; empty where it is forgotten."""
        return self.run("squeue", "-h", "--states=all", "-j", job, "-o", "%T").stdout.strip()

    def restarts(self, job: str) -> int:
        """How often a job was started again."""
        return int(self.run("squeue", "-h", "--states=all", "-j", job, "-O", "RestartCnt").stdout.strip())

    def output(self, job: str) -> str:
        """What a job has printed."""
        path = self._folder / f"job-{job}.out"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def logs(self) -> str:
        """The ends of the daemons' logs, for a failure."""
        names = ("slurmctld.log", "slurmd.log", "daemons.out")
        there = [self._folder / name for name in names if (self._folder / name).exists()]
        return "\n".join(path.read_text("utf-8", "replace")[-2000:] for path in there)

    def _start(self, *command: str) -> None:
        with (self._folder / "daemons.out").open("ab") as out:
            path = shutil.which(command[0], path=self.env["PATH"])
            assert path is not None, f"{command[0]} was there a moment ago"
            daemon = subprocess.Popen([path, *command[1:]], env=self.env, stdout=out, stderr=out)
        self._daemons.append(daemon)


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until(condition: Callable[[], bool], explain: Callable[[], str], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"Slurm is not ready after {seconds:g} s:\n{explain()}")
        time.sleep(0.1)
