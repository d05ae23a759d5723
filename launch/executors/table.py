"""The table of a session whose jobs evaluate what they train: kept up to date while they run, printed in the end."""

import subprocess
from pathlib import Path

from launch.stages.command import module
from recipes.config import read_json


def fill_table(session: Path) -> None:
    """Write the table of what is there so far; there may be nothing to tell yet."""
    if any(read_json(path)["evaluate"] for path in session.glob("*/job.json")):
        subprocess.run(module("eval.table", session), capture_output=True, check=False)


def print_table(session: Path) -> int:
    """Print the table of what was evaluated, and write its page; return the exit status."""
    status = subprocess.run(module("eval.table", session), check=False).returncode
    return status or subprocess.run(module("eval.report", session), check=False).returncode
