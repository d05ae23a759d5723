"""The table of a session, printed again from the files.

python -m eval.table [SESSION …]
"""

import sys

from eval.commands.cli import NoOptions, run
from eval.results.session import sessions
from eval.results.table import write_table


def main(names: list[str], _: NoOptions) -> None:
    """Write the tables of the named sessions, or of the newest."""
    for session in sessions(names, measured=True):
        write_table(session)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, NoOptions, main))
