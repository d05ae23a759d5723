"""`python -m launch`: compose a configuration, train its stages, evaluate them, print the table.

Hydra is the parent and composes once; torchrun is the child and never sees Hydra.
"""

import os
import shutil
import sys
from functools import partial
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from launch.config.errors import CRASH, INTERRUPTED, USER, explain
from launch.config.machine import gpu_memories
from launch.config.schema import mixture, register, sessions
from launch.config.trust import refuse_words
from launch.executors.job import HERE, run_job, train_pipelines
from launch.executors.queue import hand_over, queue
from launch.executors.report import print_table, report
from launch.stages.command import module
from launch.stages.processes import Forked, finish, start, warm_up
from launch.stages.run import console
from recipes.config import UserError
from recipes.system.processes import interrupt_on_signals


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
def job(config: DictConfig) -> None:
    """Run one job, or leave it for a cluster to run; what became of it is in its directory."""
    hydra_config = HydraConfig.get()
    directory = Path(hydra_config.runtime.output_dir)
    train = train_pipelines if config.launcher.name == HERE else partial(hand_over, directory=directory)
    run_job(config, list(hydra_config.overrides.task), directory, train)


def main() -> int:
    """Run all jobs of the command line; return the exit status: 0, 1 crash, 2 wrong input, 130 interrupted."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what it would print, and we say it in one line
    if {"--cfg", "-c"} & set(sys.argv):  # of one job, every value in force
        sys.argv = [word for word in sys.argv if word not in ("-m", "--multirun", "--resolve")] + ["--resolve"]
    elif not any(word.startswith("launcher=") and word != f"launcher={HERE}" for word in sys.argv):
        warm_up()
    sys.argv = [part for word in sys.argv for part in mixture(word)]
    interrupt_on_signals()
    register()
    try:
        refuse_words(sys.argv[1:])
        job()
        if queue:
            return elsewhere(sessions[0])
        return report(sessions[0], evaluate) if sessions else 0
    except (HydraException, OmegaConfBaseException, UserError) as error:
        console.print(f"error: {explain(error)}", style="red", soft_wrap=True)
        return USER
    except OSError as error:  # Hydra makes the session's directory, before any job can say what is wrong with it
        console.print(f"error: {error.strerror or error}: {error.filename}", style="red", soft_wrap=True)
        return USER
    except KeyboardInterrupt:
        return INTERRUPTED


def elsewhere(directory: Path) -> int:
    """Have other processes run a session's jobs, which evaluate what they train; return the exit status.

    Raises:
        UserError: the jobs name several launchers.
    """
    names = {config.launcher.name for config in queue.values()}
    if len(names) > 1:
        raise UserError(f"launcher={','.join(sorted(names))}: all jobs of a sweep have one launcher")
    if names == {"local"}:
        from launch.executors.local import run_queue
    else:
        from launch.executors.slurm import run_queue

    if run_queue(directory, queue):
        return report(directory, print_table)
    shutil.rmtree(directory)  # a dry run leaves nothing
    return 0


def evaluate(directory: Path) -> int:
    """Evaluate a session in a process of its own, which prints the table; return its exit status."""
    warm = Forked.any_yet and not gpu_memories()  # a table of old results need not wait for PyTorch
    status = finish(start(module("eval", directory), None, dict(os.environ), warm))
    if status in (0, CRASH, USER, INTERRUPTED):
        return status
    killed = f"killed by signal {-status}" if status < 0 else "killed"  # a forked one's signal may not be known
    console.print(
        f"error: the evaluation was {killed}; go on with: make eval RUNS={directory}", style="red", soft_wrap=True
    )
    return CRASH


if __name__ == "__main__":
    sys.exit(main())
