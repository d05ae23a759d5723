"""Every command ends the same way: a line that says what is wrong, and a status that scripts can test."""

import signal

import pytest
from rich.console import Console

from recipes.config import UserError
from recipes.system.commands import GOES_ON, run_command
from recipes.system.errors import CrashError


@pytest.fixture(autouse=True)
def signals() -> object:
    """Leave pytest its own handlers of SIGINT and SIGTERM."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield kept
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("[x]=1: no such option"), 2, "error: [x]=1: no such option\n"),
        (CrashError("orpo failed; its log is a/log.txt"), 1, "error: orpo failed; its log is a/log.txt\n"),
        (PermissionError(13, "Permission denied", "runs"), 2, "error: Permission denied: runs\n"),
        (OSError("the disk is gone"), 2, "error: the disk is gone\n"),
        (KeyboardInterrupt(), 130, f"{GOES_ON}\n"),
    ],
)
def test_an_error_is_one_line_and_a_status(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(words: list[str]) -> None:
        raise error

    assert run_command(command, [], GOES_ON) == status
    assert capsys.readouterr() == ("", said)
    assert run_command(command, [], GOES_ON, Console(markup=False)) == status
    assert capsys.readouterr() == (said, "")


def test_a_command_that_ends_has_its_own_status() -> None:
    assert [run_command(lambda words, status=status: status, []) for status in (None, 0, 1)] == [0, 0, 1]


def test_a_defect_is_not_hidden() -> None:
    def command(words: list[str]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_command(command, [])
