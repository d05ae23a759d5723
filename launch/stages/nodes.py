"""Run a stage on several nodes of a Slurm job: the same torchrun on each, with the rendezvous on the first."""

import os
import signal
import socket
import subprocess

PORTS = (20000, 10000)  # first port, and number of ports: every job has its own, since jobs may share a node


def rendezvous() -> str | None:
    """Return host:port of a stage's rendezvous, the first node, which runs a job's script; None outside a Slurm job."""
    if "SLURM_JOB_ID" not in os.environ:
        return None
    first, count = PORTS
    return f"{socket.gethostname()}:{first + int(os.environ['SLURM_JOB_ID']) % count}"


def on_every_node(command: list[str], nodes: int) -> list[str]:
    """Return the command that runs `command` on each node of the job, and ends it on all if it fails on one."""
    if nodes == 1:
        return command
    srun = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
    cpus = os.environ.get("SLURM_CPUS_PER_TASK")  # steps do not inherit it from sbatch since Slurm 22.05
    return [*srun, *([f"--cpus-per-task={cpus}"] if cpus else []), *command]


class Step(subprocess.Popen[bytes]):
    """`srun` and its processes on a job's nodes. Signals go to the latter: srun would turn SIGTERM into SIGKILL."""

    def send_signal(self, sig: int) -> None:
        """Send a signal to the processes on the nodes."""
        name = signal.Signals(sig).name
        subprocess.run(["scancel", f"--signal={name}", os.environ["SLURM_JOB_ID"]], check=False)
