"""A conversation on the terminal."""

import contextlib
from collections.abc import Callable
from importlib import import_module

Message = dict[str, str]
NEW = "/new"
Reply = Callable[[list[Message]], tuple[str, bool]]  # a dialogue -> what is said to it, and whether it was ended
CUT = "… (truncated: raise max_new_tokens)"
HELP = f"Ctrl-D ends, {NEW} starts over"


def converse(reply: Reply, system: str | None) -> None:
    """Print a reply to every line that is typed, which knows all before it, until Ctrl-D."""
    with contextlib.suppress(ImportError):
        import_module("readline")  # arrow keys and a history, where Python has them
    print(HELP)
    start = [{"role": "system", "content": system}] if system else []
    dialogue = [*start]
    while True:
        try:
            said = input("> ").strip()
        except EOFError:
            print()
            return
        if said == NEW:
            dialogue = [*start]
        elif said:
            dialogue.append({"role": "user", "content": said})
            text, ended = reply(dialogue)
            dialogue.append({"role": "assistant", "content": text})
            print(text if ended else f"{text} {CUT}")
