"""The progress bar of a stage, read from its `progress` file."""

import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from launch.stages.processes import Process


class Speed(ProgressColumn):
    """Optimizer steps per second."""

    def render(self, task: Task) -> Text:
        """Return the rate, empty until it is known."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


def watch(
    process: Process, directory: Path, title: str, console: Console, begun: Callable[[], None] = lambda: None
) -> None:
    """Draw the progress in a stage's `progress` file until the process ends; call `begun` once there is any."""
    columns = (
        TextColumn("{task.description}", markup=False),
        *(BarColumn(bar_width=24), MofNCompleteColumn(), Speed(), TimeRemainingColumn(elapsed_when_finished=True)),
    )
    with Progress(*columns, console=console) as progress:
        task, waiting = progress.add_task(f"{title:>5}  starting", total=None), True
        while process.poll() is None:
            show(progress, task, f"{title:>5}", directory / "progress")
            if waiting and progress.tasks[0].total:
                begun()
                waiting = False
            time.sleep(0.1)
        if process.returncode == 0:
            total = progress.tasks[0].total or 1
            progress.update(task, completed=total, total=total)


def show(progress: Progress, task: TaskID, name: str, file: Path) -> None:
    """Update the bar from what the stage last wrote: done, total, and the unit if not optimizer steps."""
    try:
        step, total, *what = file.read_text().split()
        progress.update(task, completed=int(step), total=int(total), description=" ".join([name, *what]))
    except (OSError, ValueError):
        return
