"""Published measurements, from published.yaml: printed beside ours, never instead of them."""

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from recipes.config import UserError

PATH = Path(__file__).parent / "published.yaml"


@dataclass(frozen=True)
class Protocol:
    """How a figure was measured: values of different protocols are not comparable."""

    judge: str
    prompts: str
    decoding: str


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
    error: float | None = None  # standard error, or standard deviation if the protocol says so
    interval: tuple[float, float] | None = None  # 95 %
    note: str | None = None  # facts that contradict or limit it


@cache
def published(path: Path = PATH) -> tuple[Figure, ...]:
    """Return all figures of the file, in its order.

    Raises:
        UserError: a figure lacks a field, has an unknown or mistyped one, or names something that is not in the file.
    """
    values = yaml.safe_load(path.read_text())
    protocols = {name: Protocol(**value) for name, value in values["protocols"].items()}
    return tuple(
        read_figure(f"{path.name}, figure {number}", figure, values["sources"], protocols)
        for number, figure in enumerate(values["figures"], 1)
    )


def read_figure(place: str, values: dict[str, Any], sources: dict[str, Any], protocols: dict[str, Protocol]) -> Figure:
    """Check one entry's fields, and resolve its source and protocol.

    Raises:
        UserError: as in `published`; `place` names the entry.
    """
    known = {field.name for field in fields(Figure)} - {"url"}
    missing = {"source", "table", "model", "method", "metric", "value", "protocol"} - set(values)
    if missing or set(values) - known:
        raise UserError(f"{place}: fields missing: {sorted(missing)}, unknown: {sorted(set(values) - known)}; fix it")
    numbers = [values["value"], values.get("error") or 0.0, *(values.get("interval") or ())]
    words = [value for name, value in values.items() if name not in ("value", "error", "interval")]
    if not all(isinstance(number, int | float) for number in numbers) or not all(
        isinstance(word, str) for word in words
    ):
        raise UserError(f"{place}: value, error and interval are numbers, everything else is text; fix it")
    if values["source"] not in sources or values["protocol"] not in protocols:
        raise UserError(
            f"{place}: source {values['source']} or protocol {values['protocol']} is not in the file; add it"
        )
    interval = tuple(values["interval"]) if "interval" in values else None
    resolved = {
        "url": sources[values["source"]]["url"],
        "protocol": protocols[values["protocol"]],
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
