"""Published measurements, from published.yaml: printed beside ours, never instead of them."""

import re
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from recipes.config import UserError

PATH = Path(__file__).parent / "published.yaml"


# What a printed error may be of.
ERRORS = {
    "prompts": "standard error over prompts",
    "rounds": "standard deviation over rounds of sampling one model",
    "seeds": "standard deviation over seeds",
    "reading": "how well a plot could be read",
}
PER_CENT = "per cent"
NUMBERS = ("value", "error", "seeds", "ddof")


@dataclass(frozen=True)
class Source:
    """Where figures are printed, and what they say of ORPO against DPO."""

    short: str
    title: str
    url: str
    shows: str | None = None
    lacks: str | None = None


@dataclass(frozen=True)
class Protocol:
    """How a figure was measured: values of different protocols are not comparable."""

    name: str
    judge: str
    prompts: str
    decoding: str
    error: str | None = None  # of `ERRORS`: what a figure's error is
    rounds: int | None = None  # of sampling, where that is what it is over
    scale: str = PER_CENT


@dataclass(frozen=True)
class Figure:
    """One published number; shares and win rates are in per cent if the source prints them so."""

    source: str  # a short name
    url: str
    table: str  # or figure, or section, of the source
    model: str  # the initial checkpoint, or a released model
    method: str  # the stages: SFT, SFT+DPO, ORPO, …; base or released if we would train nothing
    metric: str
    value: float
    protocol: Protocol
    data: str | None = None  # the training data
    against: str | None = None  # the method that a win rate is over
    error: float | None = None  # the protocol says of what
    interval: tuple[float, float] | None = None  # 95 %
    seeds: int | None = None  # trainings that value and error are of; None: not printed
    ddof: int = 1  # 0: the deviation over seeds divides by their number, not by one less
    note: str | None = None  # facts that contradict or limit it

    @property
    def size(self) -> str | None:
        """The model's parameters as its name has them, `1.5B` or `125M`; None for models without a size."""
        found = re.search(r"\d+(\.\d+)?[MB]\b", self.model)
        return sizes().get(self.model) or (found[0] if found else None)

    @property
    def billions(self) -> float:
        """The model's parameters in billions; 0 without a size."""
        size = self.size or "0B"
        return float(size[:-1]) / (1000 if size.endswith("M") else 1)


@cache
def published(path: Path = PATH) -> tuple[Figure, ...]:
    """Return all figures of the file, in its order.

    Raises:
        UserError: a figure lacks a field, has an unknown or mistyped one, or names something that is not in the file.
    """
    values = yaml.safe_load(path.read_text())
    protocols = {name: read_protocol(path, name, value) for name, value in values["protocols"].items()}
    return tuple(
        read_figure(f"{path.name}, figure {number}", figure, values["sources"], protocols)
        for number, figure in enumerate(values["figures"], 1)
    )


@cache
def sources() -> dict[str, Source]:
    """Return the file's sources by their names."""
    return {name: Source(**value) for name, value in yaml.safe_load(PATH.read_text())["sources"].items()}


@cache
def sizes() -> dict[str, str]:
    """Return the sizes of models whose names do not say them."""
    return yaml.safe_load(PATH.read_text())["sizes"]


def read_protocol(path: Path, name: str, values: dict[str, Any]) -> Protocol:
    """Check one protocol.

    Raises:
        UserError: its error is none of `ERRORS`, or over an unknown number of rounds.
    """
    found = Protocol(name, **values)
    if found.error not in (None, *ERRORS) or (found.error == "rounds") != (found.rounds is not None):
        raise UserError(f"{path.name}, protocol {name}: error is one of {', '.join(ERRORS)}, and rounds need a number")
    return found


def read_figure(place: str, values: dict[str, Any], sources: dict[str, Any], protocols: dict[str, Protocol]) -> Figure:
    """Check one entry's fields, and resolve its source and protocol.

    Raises:
        UserError: as in `published`; `place` names the entry.
    """
    known = {field.name for field in fields(Figure)} - {"url"}
    missing = {"source", "table", "model", "method", "metric", "value", "protocol"} - set(values)
    if missing or set(values) - known:
        raise UserError(f"{place}: fields missing: {sorted(missing)}, unknown: {sorted(set(values) - known)}; fix it")
    numbers = [values[name] for name in NUMBERS if name in values] + list(values.get("interval") or ())
    words = [value for name, value in values.items() if name not in (*NUMBERS, "interval")]
    if not all(isinstance(number, int | float) for number in numbers) or not all(
        isinstance(word, str) for word in words
    ):
        raise UserError(f"{place}: {', '.join(NUMBERS)} and interval are numbers, everything else is text; fix it")
    if values["source"] not in sources or values["protocol"] not in protocols:
        raise UserError(
            f"{place}: source {values['source']} or protocol {values['protocol']} is not in the file; add it"
        )
    protocol = protocols[values["protocol"]]
    if "error" in values and (protocol.error is None or (protocol.error == "seeds" and values.get("seeds", 0) < 2)):
        raise UserError(
            f"{place}: an error needs a protocol that says of what, and one over seeds needs their number; add it"
        )
    interval = tuple(values["interval"]) if "interval" in values else None
    resolved = {
        "url": sources[values["source"]]["url"],
        "protocol": protocol,
        "interval": interval,
    }
    return Figure(**values | resolved)


def find(**wanted: Any) -> list[Figure]:
    """Return the figures whose fields have these values: `find(source="orpo", table="table 1", method="ORPO")`."""
    return [figure for figure in published() if all(getattr(figure, name) == value for name, value in wanted.items())]


@dataclass(frozen=True)
class Experiment:
    """A file of conf/experiment/orpo-paper: the machine it fits, and the published figure it should approach."""

    name: str
    hardware: str  # a profile
    expected: list[Figure]

    @property
    def tables(self) -> list[str]:
        """The paper's tables or sections that it belongs to."""
        return sorted({figure.table for figure in self.expected})

    @property
    def words(self) -> list[str]:
        """The options that compose it."""
        return [f"experiment=orpo-paper/{self.name}", f"hardware={self.hardware}"]


def experiments() -> list[Experiment]:
    """Return those of experiments.yaml.

    Raises:
        UserError: an expectation matches no published figure, or several.
    """
    values = yaml.safe_load(PATH.with_name("experiments.yaml").read_text())
    return [
        Experiment(name, value["hardware"], [only(name, **wanted) for wanted in value["expected"]])
        for name, value in values.items()
    ]


def only(place: str, **wanted: Any) -> Figure:
    """Return the only figure whose fields have these values; `place` names the caller."""
    found = find(**wanted)
    if len(found) != 1:
        raise UserError(f"{place}: {wanted} names {len(found)} figures of {PATH.name}: name exactly one")
    return found[0]
