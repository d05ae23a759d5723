"""`python -m launch.show … row=N`: one row, token by token, as each method trains on it; nothing is trained."""

import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console

from launch.config.help import helped
from launch.stages.inspect import Subject, find_subject
from recipes.config import UserError
from recipes.profiles import DROP, JUDGE, REFUSE, VALIDATION
from recipes.system.commands import console, run_command

if TYPE_CHECKING:
    from recipes.data.tokenize import Split


def show(words: list[str]) -> None:
    """Print what happens to a row and its tokens, or the beginning of its texts if no method reads it.

    Raises:
        UserError: there is no such row, the data cannot be read, or an option is invalid.
    """
    if helped(words, __doc__):
        return
    rows = [word.removeprefix("row=") for word in words if word.startswith("row=")]
    if len(rows) != 1 or not rows[0]:
        raise UserError("name a row: ROW=1 (row=1) is the source's first; in a mixture ROW=<source>:1")
    subject = find_subject([word for word in words if not word.startswith("row=")])
    from doctor import tokens  # imports that take seconds
    from doctor.examples import Originals, excerpts
    from doctor.masks import masks, merged
    from recipes.data.tokenize import examine

    config = subject.config
    parts = subject.parts or [config.dataset]
    splits = examine(config.dataset, parts, config.model, subject.tokenizer, say=console.print)
    split, index = find_row(splits, rows[0], subject)
    row = splits[split].rows[index]
    words_of_fate, trained = fate(splits, split, index, subject)
    out = Console(highlight=False)
    out.print(f"{row['source']} row {row['row'] + 1}: {words_of_fate}", markup=False, soft_wrap=True)
    if trained:
        tokens.show(merged(masks(row, config.options)), subject.tokenizer, out)
    else:
        for column, text in excerpts(row, "train", Originals(parts)).items():
            out.print(f"\n{column}:\n{text}", markup=False, soft_wrap=True)


def find_row(splits: "dict[str, Split]", name: str, subject: Subject) -> tuple[str, int]:
    """Return the split and the index of the training row named `number`, or `source:number` in a mixture.

    Raises:
        UserError: there is no such row.
    """
    from recipes.data.unpaired import unpaired

    places = {
        (of, row + 1): (split, index)
        for split in ("train", unpaired("train"))
        if split in splits
        for index, (of, row) in enumerate(zip(*(splits[split].rows[name] for name in ("source", "row")), strict=True))
    }
    names = list(dict.fromkeys(source for source, _ in places))
    source, _, number = name.rpartition(":")
    source = source or (names[0] if len(names) == 1 else "")
    if source not in names:
        raise UserError(f"row={name}: name the source too, row=<source>:<number>; sources are {', '.join(names)}")
    last = max(number for of, number in places if of == source)
    if not number.isdecimal() or not 1 <= int(number) <= last:
        raise UserError(f"row={name}: {source} has rows 1 to {last}")
    if (source, int(number)) not in places:
        raise UserError(f"row={name} is the first half of a pair, which has the number of its later row: name that")
    return places[source, int(number)]


def fate(splits: dict[str, "Split"], split: str, index: int, subject: Subject) -> tuple[str, bool]:
    """Return what happens to a training row, with its findings, and whether the policies let it through."""
    from recipes.data.findings import REASONS

    findings = splits[split].findings
    found = [f"{REASONS[name]} ({name})" for name in REASONS if index in findings.of(name)]
    details = [splits[split].rows[index][column] for column in ("detail", "ignored")]
    noted = "; ".join([*found, *filter(None, details)])
    for policy, words in ((REFUSE, "refuses the data set"), (DROP, "dropped")):
        verdict = findings.verdict(subject.config.dataset.policies, policy)
        if index in verdict:
            return f"{words} [policies.{verdict[index]}={policy}]: {noted}", False
    return f"{use(splits, split, index, subject)}{f'; {noted}' if noted else ''}", True


def use(splits: dict[str, Any], split: str, index: int, subject: Subject) -> str:
    """Return the split of a row that no policy drops."""
    from doctor.diagnosis import forgive
    from recipes.data.splits import divide
    from recipes.data.unpaired import merged

    row = splits[split].rows[index]
    dataset = subject.config.dataset
    used = divide({name: forgive(split, dataset) for name, split in splits.items()}, dataset, subject.parts)
    used = merged(used)
    places = {name: set(zip(rows["source"], rows["row"], strict=True)) for name, rows in used.items()}
    if (row["source"], row["row"]) in places["train"]:
        return "trained on"
    if "test" not in splits and (row["source"], row["row"]) in places["test"]:
        return "held out for evaluation"
    for fold, purpose in ((VALIDATION, "choose settings"), (JUDGE, "train the judge")):
        if fold not in splits and (row["source"], row["row"]) in places.get(fold, ()):
            return f"held out to {purpose}"
    return "left out (train_rows, test_rows, or the mixture's shares)"


if __name__ == "__main__":
    sys.exit(run_command(show, sys.argv[1:]))
