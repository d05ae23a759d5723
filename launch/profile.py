"""`make profile`: write the profile that is made of a model or a data set without one, to be kept and changed.

python -m launch.profile model=Qwen/Qwen3-0.6B dataset=pairs.jsonl
"""

import sys

from launch.config.trust import refuse_words
from launch.named.profile import write
from launch.named.words import open_door, tell
from recipes.config import UserError
from recipes.system.commands import console, run_command


def profile(words: list[str]) -> None:
    """Write the profiles and say where; with `--help` only say how.

    Raises:
        UserError: nothing needs one.
    """
    if {"-h", "--help"} & {*words}:
        console.print(__doc__)
        return
    refuse_words(words)
    door = open_door(words)
    if not door.made:
        raise UserError(
            f"{' '.join(door.words) or 'nothing'}: that is a profile already; name what has none, MODEL=… or DATASET=…"
        )
    tell(door.made)
    for group, found in door.made:
        path = write(group, found)
        console.print(f"        written: {path}; use it as {group.upper()}={found.name}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(run_command(profile, sys.argv[1:]))
