"""Common to all commands: their output, a progress bar, and how they end with an error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from recipes.system.errors import CRASH, INTERRUPTED, USER, CrashError, UserError
from recipes.system.processes import forget_launchers, interrupt_on_signals

# No markup: a path or an option may hold brackets.
console = Console(stderr=True, highlight=False, markup=False)  # progress and errors of a command
output = Console(highlight=False, markup=False)  # the result of a command, which can be piped
GOES_ON = "interrupted: run the same command to resume"


def run_command(
    command: Callable[[list[str]], int | None], words: list[str], stopped: str = "", out: Console = console
) -> int:
    """Call a command with its words; return its exit status: its own or 0, 1 crash, 2 wrong input, 130 interrupted.

    An error is one line on `out`; `stopped` is printed after Ctrl-C or SIGTERM.
    """
    interrupt_on_signals()
    try:
        if line := forget_launchers():
            console.print(f"       {line}", soft_wrap=True)
        return command(words) or 0
    except UserError as error:
        return tell(str(error), USER, out)
    except CrashError as error:
        return tell(str(error), CRASH, out)
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        return tell(f"{error.strerror or error}{place}", USER, out)
    except KeyboardInterrupt:
        if stopped:
            out.print(stopped)
        return INTERRUPTED


@contextmanager
def progress(total: int, label: str, out: Console = output) -> Iterator[Callable[..., None]]:
    """Show a progress bar on `out`; yield the function that advances it, by one or by its argument."""
    columns = TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn()
    with Progress(*columns, TimeRemainingColumn(elapsed_when_finished=True), console=out) as bar:
        task = bar.add_task(f" {label}", total=total)
        yield lambda count=1: bar.advance(task, count)


def tell(message: str, status: int, out: Console) -> int:
    """Print an error in one line, and return the exit status."""
    out.print(f"error: {message}", style="red", soft_wrap=True)
    return status
