"""`python -m eval [SESSION …]`: evaluate what the launcher's sessions trained, and print their tables.

A session is a directory under runs/_sessions; without one, the newest is taken. What was measured
before is not measured again.
"""

import sys
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from eval.session import console, jobs_of, measured, models_of, sessions
from eval.table import write_table
from recipes.config import UserError
from recipes.process import interrupt_on_signals


def main(words: list[str]) -> int:
    """Evaluate and print; return the exit status."""
    interrupt_on_signals()
    try:
        for session in sessions(words):
            evaluate_session(session)
            write_table(session)
    except UserError as error:
        console.print(f"error: {error}", style="red", soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("interrupted: the same command goes on")
        return 130
    return 0


def evaluate_session(session: Path) -> None:
    """Evaluate every model of a session that has not been: the untuned one, and the last stage of each pipeline."""
    missing: dict[Path, tuple[Path, dict[str, Any]]] = {}
    for job in jobs_of(session):
        for directory in models_of(job):
            result = measured(directory, job["evaluation"])
            if not result.exists():
                missing[result] = (directory, job["evaluation"])
    if not missing:
        return
    from eval.stage import evaluate  # torch takes seconds that a table of old results need not wait for

    description = TextColumn("{task.description}", markup=False)
    columns = description, BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress:
        for result, (directory, settings) in missing.items():
            task = progress.add_task(f" eval  {directory}", total=2 * settings["prompts"])
            evaluate(directory, settings, result, lambda count, task=task: progress.advance(task, count))
            progress.update(task, completed=2 * settings["prompts"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
