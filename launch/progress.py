"""The bar that moves while a stage trains, by what the stage writes to its `progress` file."""

import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from launch.warm import Process


class Speed(ProgressColumn):
    """Updates per second."""

    def render(self, task: Task) -> Text:
        """Return the rate, once there is one."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


def watch(process: Process, directory: Path, title: str, console: Console) -> None:
    """Draw the progress that the stage writes to its `progress` file, until the process ends."""
    columns = (
        TextColumn("{task.description}", markup=False),
        *(BarColumn(bar_width=24), MofNCompleteColumn(), Speed(), TimeRemainingColumn(elapsed_when_finished=True)),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"{title:>5}  {directory}", total=None)
        while process.poll() is None:
            show(progress, task, directory / "progress")
            time.sleep(0.1)
        if process.returncode == 0:
            total = progress.tasks[0].total or 1
            progress.update(task, completed=total, total=total)


def show(progress: Progress, task: object, file: Path) -> None:
    """Move the bar to what the stage last wrote."""
    try:
        step, total = map(int, file.read_text().split())
    except (OSError, ValueError):
        return
    progress.update(task, completed=step, total=total)  # type: ignore[arg-type]
