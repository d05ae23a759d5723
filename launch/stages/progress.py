"""The progress bar of a stage, read from its `progress` file."""

import time
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

BESIDE = 65  # columns that the bar takes besides a stage's path


class Speed(ProgressColumn):
    """Optimizer steps per second."""

    def render(self, task: Task) -> Text:
        """Return the rate, empty until it is known."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


def watch(process: Process, directory: Path, title: str, console: Console) -> None:
    """Draw the progress in a stage's `progress` file until the process ends."""
    columns = (
        TextColumn("{task.description}", markup=False),
        *(BarColumn(bar_width=24), MofNCompleteColumn(), Speed(), TimeRemainingColumn(elapsed_when_finished=True)),
    )
    name = str(directory) if len(str(directory)) + BESIDE < console.width or not console.is_terminal else directory.name
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"{title:>5}  {name}", total=None)
        while process.poll() is None:
            show(progress, task, f"{title:>5}  {name}", directory / "progress")
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
