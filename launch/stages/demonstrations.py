"""What SFT trains on where it is not the pairs' chosen responses: the option `sft.dataset`."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path

from launch.config.schema import Config
from launch.config.trust import looks_local
from launch.named.data import commit_of, splits_of
from launch.named.sample import matches
from launch.stages.digest import Demonstrations, Start, digest
from launch.stages.pairs import code_identity, identity, once, source
from recipes.config import UserError, read_json
from recipes.data.columns import check_demonstrations
from recipes.data.files import HEAD, files_of, folder_splits, is_local, read_files
from recipes.data.formats import Broken
from recipes.profiles import Dataset, Model

SPLITS = ("train_sft", "train")  # of published data sets, where demonstrations are


def demonstrations_of(config: Config) -> Dataset | None:
    """Return the data set that `sft.dataset` names; None where SFT trains on the pairs, or nothing trains SFT.

    The first rows of a file are looked at. All have the pairs' limits and policies.

    Raises:
        UserError: it names nothing that can be read.
    """
    name = config.options["sft"]["dataset"]
    if name is None or "sft" not in config.stages:
        return None
    if not isinstance(name, str):
        raise UserError(f"sft.dataset={name}: give one profile, file, folder, glob or Hub id")
    if (is_local(name) or looks_local(name)) and not matches(name):
        raise UserError(f"sft.dataset={name} does not exist (relative to {Path.cwd()})")
    found = source(name, config.dataset, "sft.dataset", ("demonstrations", "dataset"))
    found = replace(found, max_length=config.dataset.max_length, train_rows=None, streaming=False, cluster=None)
    if is_local(found.path):
        if found.path == name:  # no profile, which would name its split
            found = replace(found, train_split=of_folder(folder_splits(name)))
        check_columns(found)
    elif name.partition(":")[0] == found.path:  # a Hub id without a profile
        found = pinned(found)
    return found


def check_columns(dataset: Dataset) -> None:
    """Look at the first rows of local files.

    Raises:
        UserError: a file is missing or empty, or no column can hold a response.
    """
    try:
        rows = islice(read_files(files_of(dataset.path, dataset.train_split)), HEAD)
        names = dict.fromkeys(name for row in rows if not isinstance(row, Broken) for name in row)
    except UserError as error:
        raise UserError(str(error).replace("dataset.path", "sft.dataset")) from None
    if names:
        check_demonstrations(dataset.path, names)


def pinned(dataset: Dataset) -> Dataset:
    """Return a data set of the Hub at its present commit, with the split that its demonstrations are in."""
    commit, split = present(dataset.path, dataset.config)
    return replace(dataset, revision=commit, train_split=split)


@cache
def present(path: str, config: str | None) -> tuple[str | None, str]:
    """Return a data set's commit and split; asked once, for all jobs of one process to train on the same rows."""
    commit = commit_of(path)
    splits = splits_of(path, config, commit)
    return commit, next((split for split in SPLITS if split in splits), next(iter(splits), SPLITS[-1]))


def of_folder(splits: list[str]) -> str:
    """Return the split of a folder's shards that demonstrations are in: one of `SPLITS`, or the only training split."""
    training = [split for split in splits if split.startswith("train")]
    known = next((split for split in SPLITS if split in splits), None)
    return known or (training[0] if len(training) == 1 else SPLITS[-1])


def prepare_demonstrations(
    config: Config, start: Start, pairs: Path, say: Callable[[str], None]
) -> Demonstrations | None:
    """Return the tokenized demonstrations, prepared if they are not yet; None where there are none.

    Raises:
        UserError: they cannot be read, or a policy refuses a row.
    """
    dataset = demonstrations_of(config)
    if dataset is None:
        return None
    directory = once(
        demonstrations_directory(config, dataset, start.identity, pairs),
        *(say, tokenise, dataset, config.model, start, pairs),
    )
    return Demonstrations(directory, read_json(directory / "manifest.json")["fingerprint"])


def tokenise(
    dataset: Dataset, model: Model, start: Start, pairs: Path, directory: Path, say: Callable[[str], None]
) -> None:
    """Prepare the demonstrations in a process that has the libraries."""
    from recipes.data.demonstrations import prepare_demonstrations
    from recipes.training.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(model, start.path, start.revision)
    prepare_demonstrations(dataset, model, tokenizer, directory, say, pairs)


def demonstrations_directory(config: Config, dataset: Dataset, start: str, pairs: Path) -> Path:
    """Return the directory of demonstrations; `start` is the identity of the model that tokenizes them."""
    model = config.model
    inputs = [vars(replace(dataset, test_path=None)), identity(dataset), start, pairs.name]
    inputs += [model.chat_template, model.stop_tokens, model.pad_token, code_identity("recipes.data.demonstrations")]
    return Path(config.runs, "_pairs", f"demonstrations-{digest(inputs)}")
