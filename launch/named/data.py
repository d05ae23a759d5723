"""A profile for a data set that has none: its name, its held-out split, and an estimate from a sample of its rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launch.named.lengths import PARTS, Counter, guess, lengths, means, pairs_of
from launch.named.profile import Profile, plain_name
from launch.named.sample import sample
from recipes.data.columns import judged, used
from recipes.data.files import files_of, folder_files, folder_splits
from recipes.profiles import TEST
from recipes.system.paths import expanded

SPLITS = (("train_prefs", "test_prefs"), ("train", "test"))  # of Hub data sets: trained on, and held out
ROWS = 64  # of a Hub data set, for its lengths
NAMED = 3  # files that a doubt names


@dataclass(frozen=True)
class Asked:
    """What the command line and its model say of a data set without a profile."""

    count: Counter  # of tokens
    max_length: int  # tokens of prompt and response
    test_fraction: float  # of the prompts, to hold out
    test_path: str
    revision: str  # of a Hub data set
    config: str | None = None  # of a Hub data set


def file_profile(name: str, asked: Asked) -> Profile:
    """Return the profile of a file, a folder of files or a glob."""
    rows, total = sample(name)
    files = files_of(name)
    parts = f" ({len(files)} files)" if len(files) != 1 else ""
    values = {"path": name, **({"test_split": TEST} if TEST in folder_splits(name) else {})}
    stem = Path(name).name.split(".")[0] if len(files) == 1 else Path(name.rstrip("/")).name
    found = profile(plain_name(stem), f"{name}{parts}", values, rows, total, asked)
    return replace(found, doubts=[*unread(name, files, values.get("test_split")), *found.doubts])


def unread(name: str, files: Sequence[Path], held_out: str | None) -> list[str]:
    """Return the doubt about a folder's files that are neither trained on nor held out."""
    if not expanded(name).is_dir():
        return []
    read = {*files, *(files_of(name, held_out) if held_out else [])}
    rest = [file.name for file in folder_files(expanded(name)) if file not in read]
    listed = ", ".join(rest[:NAMED] + ["…"] * (len(rest) > NAMED))
    return [f"not read: {listed}; dataset.train_split and dataset.test_split name splits"] if rest else []


def hub_profile(path: str, asked: Asked) -> Profile:
    """Return the profile of a data set of the Hub, its revision pinned where the Hub can be asked."""
    config, commit = asked.config, asked.revision or commit_of(path)
    values: dict[str, Any] = {"path": path, "config": config, "revision": commit}
    values = {name: value for name, value in values.items() if value}
    splits = splits_of(path, config, commit)
    chosen = next((pair for pair in SPLITS if pair[0] in splits), (next(iter(splits), "train"), ""))
    values |= {"train_split": chosen[0], **({"test_split": chosen[1]} if chosen[1] in splits else {})}
    rows = first_rows(path, config, commit, chosen[0]) if splits else []
    stem = plain_name(path.rpartition("/")[2] + (f"-{config}" if config else ""))
    title = f"{path}{f':{config}' if config else ''}{f' at {commit[:8]}' if commit else ''}"
    return profile(stem, title, values, rows, splits.get(chosen[0]) or 0, asked)


def profile(
    name: str, title: str, values: dict[str, Any], rows: Sequence[dict[str, Any]], total: int, asked: Asked
) -> Profile:
    """Return a profile with an estimate from a sample, and what is said of it."""
    columns = list(rows[0]) if rows else []
    read = [column for column in columns if column in used(columns)]
    unread = [column for column in columns if column not in read]
    values = {"name": name, **values, "max_length": asked.max_length}
    pairs = pairs_of(rows)
    if not pairs:
        more = "`make doctor` says more"
        if judged(columns) == "single":
            more = "of single responses KTO and SFT learn with dataset.policies.alone=keep"
        return Profile(name, values, [f"{title}: no pair found by a quick look at its first rows; {more}"])
    sizes = lengths(pairs, asked.count)
    count = round(total * len(pairs) / len(rows))  # 0: the Hub does not say how many rows there are
    estimate = {"rows": count} | dict(zip(PARTS, means(sizes), strict=True))
    held = asked.test_path or values.get("test_split") or f"{asked.test_fraction:.0%} of the prompts"
    lines = [
        f"{title}: {f'about {count:,}' if count else 'an unknown number of'} pairs; columns {', '.join(read)}"
        + (f", not read: {', '.join(unread)}" if unread else ""),
        f"held out: {held}; mean tokens{' (guessed from characters)' if asked.count is guess else ''}: "
        f"prompt {estimate['prompt']}, responses {estimate['chosen']} and {estimate['rejected']}",
    ]
    comments = ["Made by `make profile` from a sample of its rows.", *lines[1:]]
    return Profile(name, {**values, "estimate": estimate}, lines, too_long(asked.max_length, sizes), comments)


def too_long(longest: int, sizes: Sequence[tuple[float, float, float]]) -> list[str]:
    """Return the doubt whether pairs will be dropped for their length."""
    share = sum(prompt + max(answers) > longest for prompt, *answers in sizes) / len(sizes)
    if not share:
        return []
    few = "under 1%" if share < 0.01 else f"{share:.0%}"
    return [f"{few} of the pairs are longer than dataset.max_length={longest}: they would be dropped"]


def commit_of(path: str) -> str | None:
    """Return the commit of a Hub data set's main branch; None if the Hub cannot be asked."""
    from huggingface_hub import HfApi

    from recipes.system.hub import reachable

    try:
        return HfApi().dataset_info(path, timeout=10).sha if reachable() else None
    except Exception:  # unknown, gated, no permission: reading it says so
        return None


def splits_of(path: str, config: str | None, commit: str | None) -> dict[str, int]:
    """Return the splits of a Hub data set with their numbers of rows; nothing if it cannot be looked up."""
    from datasets import config as library
    from datasets import load_dataset_builder

    from recipes.system.hub import reachable

    if not reachable():
        library.HF_HUB_OFFLINE = True  # use only what was downloaded before
    try:
        found = load_dataset_builder(path, config, revision=commit).info.splits
    except Exception:  # reading it says what is wrong
        found = None
    return {name: split.num_examples for name, split in (found or {}).items()}


def first_rows(path: str, config: str | None, commit: str | None, split: str) -> list[dict[str, Any]]:
    """Return the first rows of a Hub data set, streamed; none if they cannot be had."""
    from datasets import load_dataset

    try:
        return list(load_dataset(path, config, split=split, revision=commit, streaming=True).take(ROWS))
    except Exception:  # reading it says what is wrong
        return []
