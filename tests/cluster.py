"""A private Slurm of two pretended nodes in one directory: own ports, own munge key, no root, nothing under /etc."""

import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from door import PATIENCE

from recipes.system.processes import die_with_parent

DAEMONS = ("munged", "slurmctld", "slurmd")
NODES = ("first", "second")
# Slurm holds a job that is queued again until its old credential has expired: two minutes, where this is not set.
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={directory}/munge.sock,cred_expire=5
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool-%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd-%n.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd-%n.log
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
GresTypes=gpu
NodeName=first NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8 RealMemory=8000 Gres=gpu:2 State=UNKNOWN
NodeName=second NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 RealMemory=8000 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Cluster:
    """Two nodes, one of them with two pretended GPUs: Slurm hands out the numbers of any two device files."""

    def __init__(self, directory: Path) -> None:
        """Name the directory, which must be empty, and what commands need to find the cluster."""
        self.directory = directory
        self.config = str(directory / "slurm.conf")
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.environment = os.environ | {"SLURM_CONF": self.config}

    def run(self) -> None:
        """Start the daemons, and wait until the nodes are idle."""
        directory = self.directory
        (directory / "state").mkdir()
        directory.chmod(0o755)
        key = directory / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        host = socket.gethostname().split(".")[0]
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        (directory / "gres.conf").write_text("NodeName=first Name=gpu File=/dev/null,/dev/zero\n")
        (directory / "slurm.conf").write_text(
            CONFIG.format(host=host, user=user, ports=free_ports(3), directory=directory)
        )
        munge = {"socket": "munge.sock", "pid-file": "munged.pid", "log-file": "munged.log", "seed-file": "munge.seed"}
        words = [f"--{option}={directory / name}" for option, name in munge.items()]
        self.start("munged", "--foreground", "--force", f"--key-file={key}", *words)
        while not (directory / "munge.sock").exists():
            assert self.daemons[0].poll() is None, (directory / "munged.log").read_text()
            time.sleep(0.02)
        self.start("slurmctld", "-D", "-f", self.config)
        for node in NODES:
            (directory / f"spool-{node}").mkdir()
            self.start("slurmd", "-D", "-N", node, "-f", self.config)
        self.wait_until_idle()

    def start(self, *words: str) -> None:
        """Start a daemon in the foreground, which ends with this process even where that is killed."""
        command, nothing = [str(find(words[0])), *words[1:]], subprocess.DEVNULL
        streams: dict[str, Any] = {"stdin": nothing, "stdout": nothing, "stderr": nothing}
        process: Any = subprocess.Popen(command, env=self.environment, preexec_fn=die_with_parent, **streams)
        self.daemons.append(process)

    def ask(self, *words: str) -> str:
        """What one of Slurm's commands prints."""
        found = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=60, check=True)
        return found.stdout.strip()

    def wait_until_idle(self) -> None:
        """Wait until no job is left on the nodes."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with suppress(subprocess.SubprocessError):
                if self.ask("sinfo", "--noheader", "--format=%t %D") == "idle 2" and not self.jobs():
                    return
            time.sleep(0.1)
        raise AssertionError("\n".join(path.read_text()[-2000:] for path in self.directory.glob("*.log")))

    def jobs(self) -> list[str]:
        """The ids of the jobs that wait or run."""
        return self.ask("squeue", "--noheader", "--array", "--format=%i").split()

    def stop(self) -> None:
        """End the jobs, then the daemons; whatever happened before."""
        with suppress(subprocess.SubprocessError, AssertionError):
            if self.jobs():
                self.ask("scancel", "--signal=KILL", "--full", *self.jobs())
                self.ask("scancel", *self.jobs())
            self.wait_until_idle()
        for daemon in self.daemons:
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def find(daemon: str) -> str | None:
    """Where a daemon is installed, or None; an ordinary user's PATH may lack the place."""
    return shutil.which(daemon, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
