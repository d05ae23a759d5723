"""The words of a command line: `model=` and `dataset=` may name what has no profile, and one is made for it."""

import math
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from launch.config.trust import looks_local
from launch.named.data import Asked, file_profile, hub_profile
from launch.named.files import read_files
from launch.named.gguf import model_directory
from launch.named.grammar import literal, refuse_unreadable
from launch.named.lengths import Counter, counter_of, guess, total
from launch.named.model import model_profile
from launch.named.packages import without_hub
from launch.named.pipelines import spelled
from launch.named.profile import Profile, named_apart, profile_of, register, written
from launch.named.sample import HUB_ID, matches
from recipes.config import UserError
from recipes.data.files import is_local
from recipes.profiles import Dataset
from recipes.system.commands import console
from recipes.system.paths import expanded

EVALUATED = "evaluate=true"
SWEEP = re.compile(r"(choice|glob|shuffle|sort)\(")  # Hydra's own ways to write several values


@dataclass
class Door:
    """What the model and data set of one command line are called, and what was made for them."""

    words: list[str]
    made: list[tuple[str, Profile]]  # group, profile
    context: int | None = None  # tokens that the model reads
    counter: Counter = guess

    def given(self, name: str, default: str) -> str:
        """Return the value that the command line gives an option, the last one."""
        return next((word[len(name) + 1 :] for word in reversed(self.words) if word.startswith(f"{name}=")), default)

    def number(self, name: str, default: float) -> float:
        """Return the number that the command line gives an option; the default where it is none, or several."""
        with suppress(ValueError):
            return value if math.isfinite(value := float(self.given(name, str(default)))) else default
        return default

    def model(self, name: str) -> str:
        """Return the profile's name for a model: a profile, a directory, a GGUF file, or a Hub id.

        Raises:
            UserError: it is none of these, or cannot be read.
        """
        path = expanded(name)
        if name.lower().endswith(".gguf"):
            return self.model(str(model_directory(path)))
        if not self.given("model.model_name_or_path", "") and (other := without_hub(name)):
            return self.model(other)
        if profile_of("model", name) and (path / "config.json").is_file():
            console.print(f"model={name} is the profile of that name; the directory is MODEL=./{name}", soft_wrap=True)
        if profile_of("model", name) or (not path.exists() and not looks_local(name) and not HUB_ID.fullmatch(name)):
            self.counter = counter_of(self.given("model.model_name_or_path", name)) or guess
            self.context = (profile_of("model", name) or {}).get("model", {}).get("context_length")
            return name  # what is no profile, Hydra rejects with a list of those that are
        refuse_no_directory(name, path)
        if known := written("model", model_name_or_path=name):
            return self.model(known)
        files = read_files(name, self.given("model.model_revision", "main"))
        profile = model_profile(files)
        self.counter = counter_of(name) or guess
        self.context = profile.values["model"].get("context_length")
        return self.keep("model", profile)

    def dataset(self, name: str) -> str:
        """Return the profile's name for a data set: a profile, a file, a folder or a glob of files, or a Hub id.

        Raises:
            UserError: it is none of these, or cannot be read.
        """
        if profile_of("dataset", name):
            return name
        path, _, config = (name, "", "") if is_local(name) else name.partition(":")
        if known := written("dataset", path=path, config=config or None, data_dir=None):
            return known
        if is_local(name) or looks_local(name):
            profile = file_profile(name, self.asked())
        elif HUB_ID.fullmatch(name):
            profile = hub_profile(path, replace(self.asked(), config=config or None))
        else:
            return name  # Hydra rejects it with a list of those that are
        return self.keep("dataset", profile)

    def estimate(self, name: str) -> dict[str, float] | None:
        """Return the estimate of a mixture's source; None if there is none."""
        known = profile_of("dataset", name)
        if known is None and is_local(name):
            known = file_profile(name, self.asked()).values
        return (known or {}).get("estimate")

    def keep(self, group: str, profile: Profile) -> str:
        """Register a profile that was made; return its name."""
        profile = named_apart(group, profile, self.made)
        if (group, profile) not in self.made:
            self.made.append((group, profile))
        register(group, profile)
        return profile.name

    def asked(self) -> Asked:
        """Return what is known of a data set before it is looked at."""
        experiment = profile_of("experiment", self.given("experiment", "")) or {}
        standard = vars(Dataset("", "")) | experiment.get("dataset", {})
        longest = min(standard["max_length"], self.context or standard["max_length"])
        return Asked(
            self.counter,
            round(self.number("dataset.max_length", longest)),
            self.number("dataset.test_fraction", standard["test_fraction"]),
            self.given("dataset.test_path", ""),
            self.given("dataset.revision", ""),
        )


def with_profiles(words: Iterable[str]) -> list[str]:
    """Return the words with a profile's name for the model and the data set; those that are made are described.

    A value that names something is read as it stands, whatever its characters. In others a comma separates the values
    of a sweep, and `dataset=[a,b]` is a mixture.

    Raises:
        UserError: a value names nothing or cannot be read.
    """
    words = list(words)
    refuse_borrowed(words)
    if (parts := [part for word in words for part in spelled(word)]) != words:  # spelled pipelines are compared
        first = next(place for place, part in enumerate(parts) if "=" in part)  # flags stay before all options
        parts.insert(first, EVALUATED)
    door = open_door(parts)
    tell(door.made)
    refuse_unreadable(door.words)
    return door.words


def open_door(words: list[str]) -> Door:
    """Return a command line's door with its words resolved: the model first, whose tokens the data set is counted in.

    Raises:
        UserError: a value names nothing or cannot be read.
    """
    refuse_list(words)
    door = Door(words, [])
    door.words = [part for word in words for part in resolve(word, "model", door.model, is_model)]
    door.words = [part for word in door.words for part in mixed(door, word)]
    door.words = [part for word in door.words for part in resolve(word, "dataset", door.dataset, is_data)]
    return door


def resolve(word: str, group: str, name_of: Callable[[str], str], known: Callable[[str], bool]) -> list[str]:
    """Return a word of a group with profiles' names; any other word as it is."""
    key, _, value = word.partition("=")
    if key != group or not value or (SWEEP.match(value) and not known(value)):
        return [word]
    return [f"{group}={','.join(name_of(name) for name in pieces(value, known))}"]


def mixed(door: Door, word: str) -> list[str]:
    """Return `dataset=[a,b]` as the options of a mixture; any other word as it is.

    Where all rows of every source are read and each has an estimate, the mixture has their sum.
    """
    key, _, value = word.partition("=")
    if key != "dataset" or not (value.startswith("[") and value.endswith("]")) or value == "[]" or is_data(value):
        return [word]
    sources = [source.strip(" '\"") for source in pieces(value[1:-1], is_data)]
    words = ["dataset=mixture", f"dataset.sources=[{','.join(map(literal, sources))}]"]
    if any(door.given(f"dataset.{name}", "") for name in ("weights", "counts", "estimate")):
        return words
    estimates = [door.estimate(source) for source in sources]
    return words if None in estimates else [*words, f"dataset.estimate={total(filter(None, estimates))}"]


def pieces(value: str, known: Callable[[str], bool]) -> list[str]:
    """Split at commas, except within what is known as a whole: of several such readings the longest name first."""
    parts, found = value.split(","), []
    while parts:
        count = next((count for count in range(len(parts), 0, -1) if known(",".join(parts[:count]))), 1)
        found.append(",".join(parts[:count]))
        parts = parts[count:]
    return found


def is_model(name: str) -> bool:
    """Whether a name is a model's as it stands."""
    return bool(profile_of("model", name)) or expanded(name).exists()


def is_data(name: str) -> bool:
    """Whether a name is a data set's as it stands."""
    return bool(profile_of("dataset", name) or matches(name))


def refuse_no_directory(name: str, path: Path) -> None:
    """Reject what is neither a directory, a GGUF file nor on the Hub.

    Raises:
        UserError: the message says what to name instead.
    """
    if path.is_file():
        raise UserError(f"MODEL={name} is a file: name the directory of a Transformers model, or a GGUF file (.gguf)")
    if looks_local(name) and not path.exists():
        raise UserError(f"MODEL={name} does not exist (relative to {Path.cwd()})")


def refuse_list(words: list[str]) -> None:
    """Reject a list of models, of which Hydra would train the last, with options of the others.

    Raises:
        UserError: the message says what to type.
    """
    for word in words:
        if word.startswith("model=[") and not is_model(word.removeprefix("model=")):
            names = word.removeprefix("model=").strip("[]")
            raise UserError(f"{word}: models are not mixed; MODEL={names} trains each and compares them")


def refuse_borrowed(words: list[str]) -> None:
    """Reject one's own model without a profile: it would get the embedded world's stop tokens and epochs.

    Raises:
        UserError: the message says what to type.
    """
    door = Door(words, [])
    path = door.given("model.model_name_or_path", "pocket")
    if path != "pocket" and not door.given("model", door.given("experiment", "")):
        raise UserError(
            f"model.model_name_or_path={path} would be trained with the stop tokens, epochs and name of the embedded "
            f"world's model: use MODEL={path} (model={path})"
        )


def tell(made: list[tuple[str, Profile]]) -> None:
    """Say what was found of a model and a data set that have no profile."""
    for group, profile in made:
        doubts = [f"to be checked: {doubt}" for doubt in profile.doubts]
        for title, line in zip_longest([group], [*profile.lines, *doubts], fillvalue=""):
            console.print(f"{title:7} {line}", soft_wrap=not console.is_terminal)
    if made:
        names = " ".join(f"{group.upper()}=…" for group, _ in made)
        console.print(f"        to keep or change this: make profile {names}", soft_wrap=not console.is_terminal)
