"""`python -m launch.doctor`: examine a data set as a model would read it, without training.

Exit status: 0 if the data set was examined, whatever was found (the last line says whether training would reject it); 2
if it could not be read or an option is invalid.
"""

import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from launch.config.help import helped
from launch.config.judging import FRACTION
from launch.stages.digest import digest
from launch.stages.inspect import Subject, find_subject
from launch.stages.pairs import identity
from recipes.system.commands import console, run_command

WIDTH = 100


def doctor(words: list[str]) -> None:
    """Examine, print the report, and write it as a page.

    Raises:
        UserError: the data set or the model cannot be read, or an option is invalid.
    """
    if helped(words, __doc__):
        return
    subject = find_subject(words)
    from doctor.diagnosis import diagnose  # imports that take seconds
    from doctor.lengths import PACKED
    from doctor.page import write_page
    from doctor.report import show

    dataset, model = subject.config.dataset, subject.config.model
    batch = subject.config.hardware.per_device_batch or PACKED[0]  # left open: the usual sizes alone are compared
    with console.status("reading") as status:

        def say(line: str) -> None:
            status.update(line)
            console.print(f"       {line}", markup=False)

        report = diagnose(dataset, subject.parts, model, subject.tokenizer, batch, say)
        say("drawing the page")
        page = page_path(subject)
        names = ", ".join(part.name for part in subject.parts) or dataset.path
        title = f"{names} as {model.name} reads it"
        write_page(report, dataset, subject.parts, title, page)
    out = Console(highlight=False, width=WIDTH)
    show(report, title, page, out)
    if not dataset.gold and not dataset.judge_fraction:
        out.print(f"`make compare` trains its judge on {FRACTION:.0%} of these prompts (dataset.judge_fraction)")


def page_path(subject: Subject) -> Path:
    """Return the path of the page for these inputs: the same inputs have the same page."""
    config = subject.config
    files = [identity(part) for part in (subject.parts or [config.dataset])]
    model = asdict(config.model) | config.model_options
    name = digest([asdict(config.dataset), model, files, subject.identity])
    return Path(config.runs, "_doctor", f"{config.dataset.name}-{config.model.name}-{name}.html")


if __name__ == "__main__":
    sys.exit(run_command(doctor, sys.argv[1:]))
