"""Run jobs in other processes, by the launcher that their configurations name."""

from pathlib import Path

from launch.executors.queue import Queue
from recipes.config import UserError


def run_elsewhere(directory: Path, queue: Queue) -> bool:
    """Run a session's jobs, which also evaluate what they train; return whether any ran: a dry run runs none.

    Raises:
        UserError: the jobs name several launchers, or cannot run there.
        KeyboardInterrupt: the user stopped it, which was reported.
    """
    names = {config.launcher.name for config in queue.values()}
    if len(names) > 1:
        raise UserError(f"launcher={','.join(sorted(names))}: a sweep has one launcher; choose one")
    if names == {"local"}:
        from launch.executors.local import run_queue
    else:
        from launch.executors.slurm import run_queue
    return run_queue(directory, queue)
