"""The preference pairs of a configuration: from profiles to a directory of tokenized rows, prepared once."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import yaml

from launch.config.schema import Config
from launch.named.sample import HUB_ID, matches
from launch.stages.digest import Start, digest
from launch.stages.processes import call
from recipes.config import UserError, read_json
from recipes.data.files import is_local, named
from recipes.profiles import DROP, KEEP, REFUSE, TRUNCATE, Dataset, Estimate, Model, Policies
from recipes.system.files import flaw, remove_leftovers, sha256_of
from recipes.system.fingerprint import fingerprint
from recipes.system.paths import ROOT, expanded


def prepare_pairs(config: Config, start: Start, say: Callable[[str], None]) -> Path:
    """Return the directory of the tokenized pairs, prepared if there is none for these inputs.

    Raises:
        UserError: the data or the tokenizer cannot be used; see `recipes.data.prepare`.
    """
    directory = pairs_directory(config, start.identity)
    return once(directory, say, tokenise, config.dataset, sources(config.dataset), config.model, start)


def once(directory: Path, say: Callable[[str], None], prepare: Callable[..., None], *inputs: object) -> Path:
    """Return a directory of tokenized rows; have `prepare` write it where it is missing or damaged."""
    if directory.exists():
        wrong = flaw(directory)
        if wrong is None:
            return directory
        say(f"{directory} is damaged ({wrong}): preparing it again")
        shutil.rmtree(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(directory.parent)
    call(prepare, *inputs, directory, say)
    return directory


def tokenise(
    dataset: Dataset, parts: list[Dataset], model: Model, start: Start, directory: Path, say: Callable[[str], None]
) -> None:
    """Prepare the pairs in a process that has the libraries."""
    from recipes.data.prepare import prepare
    from recipes.training.tokenizer import load_tokenizer

    prepare(dataset, model, load_tokenizer(model, start.path, start.revision), directory, say, parts)


def pairs_directory(config: Config, start: str) -> Path:
    """Return the pairs' directory for these inputs; `start` is the identity of the model that tokenizes them."""
    dataset, model, parts = config.dataset, config.model, sources(config.dataset)
    plain = {key: value for key, value in asdict(dataset).items() if key != "estimate"}
    inputs = [plain, *([vars(part) for part in parts]), *map(identity, parts or [dataset]), start]
    inputs += [model.chat_template, model.stop_tokens, model.pad_token, code_identity()]
    return Path(config.runs, "_pairs", digest(inputs))


UNUSABLE = ("malformed", "unrendered", "diverging", "empty", "identical", "undecided", "unfit")


def check(policies: Policies) -> None:
    """Check the policies' values before any row is read.

    Raises:
        UserError: a finding cannot have this policy.
    """
    for finding, policy in vars(policies).items():
        known = (KEEP, DROP, REFUSE)
        if finding == "overlong":  # not `keep`: one trainer would truncate such a pair, another would drop it
            known = (DROP, REFUSE, *TRUNCATE)
        elif finding in UNUSABLE:  # not `keep`: such a row cannot be trained on
            known = (DROP, REFUSE)
        if policy not in known:
            raise UserError(f"dataset.policies.{finding}={policy}: use {', '.join(known)}")


def sources(dataset: Dataset) -> list[Dataset]:
    """Return a mixture's sources, with the mixture's lengths and policies.

    Raises:
        UserError: a source is none of what `dataset=` may name, two have one name, or an option fits only a mixture.
    """
    check(dataset.policies)
    if not dataset.sources and (dataset.weights or dataset.counts):
        raise UserError("dataset.weights and dataset.counts need a mixture: name its sources, dataset=[a,b]")
    unknown = Estimate()  # not that of a whole source: a mixture may take only a share of it
    parts = [replace(source(name, dataset), estimate=unknown) for name in dataset.sources]
    names = [part.name for part in parts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(f"dataset=[…] has two sources named {twice}: rename one file")
    return parts


def source(name: str, mixture: Dataset, option: str = "dataset=[…]", folders: Sequence[str] = ("dataset",)) -> Dataset:
    """Return what an option names: a profile of conf/, a file, a folder or glob of files, or a Hub id.

    Of two profiles with one name it is the one in the first of `folders`.

    Raises:
        UserError: it is none of these.
    """
    profiles: dict[str, Path] = {}
    for path in [path for folder in folders for path in sorted(Path(ROOT, "conf", folder).glob("*.yaml"))]:
        if path.stem not in ("file", "mixture"):
            profiles.setdefault(path.stem, path)
    if name in profiles:
        values = yaml.safe_load(profiles[name].read_text())
        known = {option.name for option in fields(Dataset)}
        part = Dataset(**{key: value for key, value in values.items() if key in known})
    elif matches(name) or HUB_ID.fullmatch(name):
        path, _, subset = (name, "", "") if matches(name) else name.partition(":")
        part = Dataset(name=Path(path.rstrip("/")).name, path=path, config=subset or None)
    else:
        places = " or ".join(f"conf/{folder}" for folder in folders)
        raise UserError(
            f"{name!r} in {option} is neither a file, a folder, a Hub id nor a profile of {places}: "
            f"{', '.join(profiles)}"
        )
    part.evaluation_prompts = mixture.evaluation_prompts
    part.policies, part.streaming, part.train_rows = mixture.policies, mixture.streaming, mixture.train_rows
    return part


def identity(dataset: Dataset) -> list[str]:
    """Return the identity of a data set: it changes with its files; a Hub set is identified by id and revision."""
    paths = [path for path in (dataset.path, dataset.test_path) if path and path != "pocket" and is_local(path)]
    files = [(file, expanded(path)) for path in paths for file in named(path)]
    # within a folder a name says of which split a file is
    found = [f"{file.relative_to(place) if place.is_dir() else file.name} {sha256_of(file)}" for file, place in files]
    return found + [sha256_of(file) for path in dataset.evaluation_prompts if (file := expanded(path)).is_file()]


def code_identity(module: str = "recipes.data.prepare") -> str:
    """Return a digest of the code that prepares the rows: when it changes, they are prepared again."""
    return digest(fingerprint(module))


def describe_rows(directory: Path) -> str:
    """Return one line that says how many pairs or demonstrations there are, and what was dropped or truncated."""
    manifest = read_json(directory / "manifest.json")
    kind = "demonstrations" if directory.name.startswith("demonstrations") else "pairs"
    parts = [" and ".join(f"{count:,} {split}" for split, count in manifest["pairs"].items()) + f" {kind}"]
    parts += [
        f"without a partner {found['chosen']['rows']:,} good and {found['rejected']['rows']:,} bad {split} responses"
        for split, found in manifest.get("unpaired", {}).items()
    ]
    if len(manifest["sources"]["train"]) > 1:
        parts.append(
            "train on " + " and ".join(f"{count:,} of {name}" for name, count in manifest["sources"]["train"].items())
        )
    cut = manifest["truncated"].items()
    parts += [f"{count:,} {split.replace('_', ' ')} truncated to dataset.max_length" for split, count in cut if count]
    dropped = [
        f"{found['count']} {split.replace('_', ' ')} ({found['reason']}, rows {', '.join(found['rows'])})"
        for split, findings in manifest["dropped"].items()
        for found in findings.values()
    ]
    parts += [
        f"{found['count']:,} {split.replace('_', ' ')} rows: {found['reason']} (rows {', '.join(found['rows'])})"
        for split, findings in manifest["noted"].items()
        for found in findings.values()
    ]
    return "; ".join([*parts, *(["dropped " + "; ".join(dropped)] if dropped else [])])
