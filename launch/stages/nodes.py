"""A stage on several nodes of a Slurm job: the same torchrun on each of them, which meet on the first."""

import os
import signal
import socket
import subprocess

PORTS = (20000, 10000)  # the first, and how many: every job has its own, since jobs may share a node


def rendezvous() -> str | None:
    """Return host:port where a stage's nodes meet, or None outside a Slurm job: its script runs on its first node."""
    if "SLURM_JOB_ID" not in os.environ:
        return None
    first, count = PORTS
    return f"{socket.gethostname()}:{first + int(os.environ['SLURM_JOB_ID']) % count}"


def on_every_node(command: list[str], nodes: int) -> list[str]:
    """Return what runs a command on each node of the job, and ends it on all where it fails on one."""
    if nodes == 1:
        return command
    srun = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
    cpus = os.environ.get("SLURM_CPUS_PER_TASK")  # which sbatch's steps do not inherit since Slurm 22.05
    return [*srun, *([f"--cpus-per-task={cpus}"] if cpus else []), *command]


class Step(subprocess.Popen[bytes]):
    """`srun` and what it runs on the nodes of a job. A signal is for the latter: srun takes SIGTERM for SIGKILL."""

    def send_signal(self, sig: int) -> None:
        """Send a signal to what runs on the nodes."""
        name = signal.Signals(sig).name
        subprocess.run(["scancel", f"--signal={name}", os.environ["SLURM_JOB_ID"]], check=False)
