"""`python -m eval.chat RUN [option=value …]`: talk to a trained stage, a model directory, or a GGUF file.

    temperature=1          0: the likeliest token at every place
    max_new_tokens=512     of one reply
    system="Be brief."     a system turn before the first question
    seed=0

A stage speaks through its profile's chat template and stop tokens, a directory and a file through their own.
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from eval.commands import gguf
from eval.commands.cli import run
from eval.commands.converse import Message, Reply, converse
from recipes.config import UserError
from recipes.system.commands import console


@dataclass
class Options:
    """The options of the command line."""

    temperature: float = 1.0
    max_new_tokens: int = 512
    system: str | None = None
    seed: int = 0


def main(names: list[str], options: Options) -> None:
    """Talk until Ctrl-D.

    Raises:
        UserError: nothing is named that can speak, or an option is out of range.
    """
    if len(names) == 1 and not Path(names[0]).exists():
        raise UserError(f"{names[0]} does not exist: name a stage, a model directory or a GGUF file, by RUN=")
    if len(names) != 1:
        raise UserError("name what to talk to: make chat RUN=runs/<model>/<dataset>/<stage>-<digest>, or a GGUF file")
    if options.temperature < 0 or options.max_new_tokens < 1:
        raise UserError("temperature must be at least 0 and max_new_tokens at least 1")
    if Path(names[0]).is_file():
        gguf.talk(names[0], asdict(options))
        return
    converse(speaker(Path(names[0]), options), options.system)


def speaker(directory: Path, options: Options) -> Reply:
    """Return what replies to a dialogue with the model of a directory.

    Raises:
        UserError: it has no model, or its template rejects a dialogue.
    """
    console.print(f"loading {directory}", soft_wrap=True)
    from eval.answers.dialogues import Speaker
    from eval.answers.store import Sampling

    model = Speaker.load(directory)

    def reply(dialogue: list[Message]) -> tuple[str, bool]:
        sampling = Sampling(options.max_new_tokens, options.temperature, seed=options.seed)
        (said,) = model.answer([dialogue], sampling, lambda count: None)
        return said.text, said.stopped

    return reply


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Options, main, stopped=""))
