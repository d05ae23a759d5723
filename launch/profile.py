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
    """Write the profiles and say where.

    Raises:
        UserError: nothing needs one, or there is such a file already.
    """
    refuse_words(words)
    made = open_door(words).made
    if not made:
        raise UserError("all that is named has a profile: name a model or data set that has none, MODEL=… or DATASET=…")
    tell(made)
    for group, found in made:
        path = write(group, found)
        console.print(f"        written: {path}; use it as {group.upper()}={found.name}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(run_command(profile, sys.argv[1:]))
