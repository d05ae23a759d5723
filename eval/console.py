"""The console and the progress bar of evaluations."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from recipes.system.commands import output as console


@contextmanager
def progress(total: int, label: str) -> Iterator[Callable[[int], None]]:
    """Show a progress bar while a suite works; yield the function that advances it."""
    columns = TextColumn("{task.description}", markup=False), BarColumn(bar_width=24)
    with Progress(*columns, MofNCompleteColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(f" {label}", total=total)
        yield lambda count: bar.advance(task, count)
        bar.update(task, completed=total)
