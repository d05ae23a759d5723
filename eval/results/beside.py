"""What is measured of a model beside another: how far it moved from its base, what it forgot, its implicit reward."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.answers.load import context, load_alone, untuned
from eval.answers.log_probs import Row, log_probs_of, mean_log_probs
from eval.answers.passages import OURS, read_passages
from eval.answers.store import Answer
from eval.results.result import Result, measured
from pocket.passages import passages
from recipes.config import UserError, read_config, read_json
from recipes.methods import METHODS

SIDES = ("chosen", "rejected")
Texts = tuple[list[str], list[str]]  # passages, and the name of each one's cluster


def texts_of(settings: dict[str, Any]) -> Texts:
    """Return the held-out plain text: the named file's, the embedded world's, or ours.

    Raises:
        UserError: the file cannot be used.
    """
    if settings["gold"] is True and not settings.get("text"):
        texts, places = zip(*passages(), strict=True)
        return [*texts], [*places]
    texts = read_passages(Path(settings.get("text") or OURS))
    return texts, [*texts]


def as_rows(texts: list[str], tokenizer: Any, model: Any) -> list[Row]:
    """Return texts as ids, cut to the model's context; the first token has nothing to be predicted from."""
    ids = [found[: context(model)] for found in tokenizer(texts)["input_ids"]]
    return [(found[:1], found[1:]) for found in ids]


def sampled_ids(answer: Answer, tokenizer: Any, stop: int) -> list[int]:
    """Return the tokens of a response, its stop included; those of its text where the sampled ones are unknown."""
    if answer.ids is not None:
        return answer.ids
    return [*tokenizer(answer.text, add_special_tokens=False)["input_ids"], *([stop] if answer.stopped else [])]


def losses(model: Any, rows: list[Row], pad: int) -> list[float]:
    """Return each row's mean negative log-prob, in nats per token."""
    return [-value for value in log_probs_of(model, rows, pad)]


def sums(model: Any, rows: list[Row], pad: int) -> list[float]:
    """Return each response's log-prob, summed over its tokens, in nats."""
    means = log_probs_of(model, rows, pad)
    return [mean * len(response) for mean, (_, response) in zip(means, rows, strict=True)]


@dataclass(frozen=True)
class Scored:
    """What a stage's model has scored, and another is to score too."""

    rows: list[Row]
    own: list[float]  # of each row, by `sums` or `losses`


def beside(directory: Path, settings: dict[str, Any], pairs: Any, said: Scored, text: Scored, pad: int) -> Result:
    """Return what a stage's model is measured by beside another model, which takes its place in memory.

    Args:
        directory: the stage.
        settings: those of the evaluation.
        pairs: the held-out pairs.
        said: prompts with responses that the stage's model sampled, by `sums`.
        text: plain text, by `losses`.
        pad: any token.

    Returns:
        `kl`, log p - log p_base of each response; `base_text`, the base model's loss of each passage; and of a method
        with a reference model `reference`: beta, and the reference's mean log-probs of both responses of each pair.
    """
    config = read_config(directory)
    if config["stage"] == "base":
        return {"kl": [0.0] * len(said.own), "base_text": text.own}
    base = load_alone(*untuned(directory))
    theirs = sums(base, said.rows, pad)
    found: Result = {"kl": [ours - other for ours, other in zip(said.own, theirs, strict=True)]}
    found["base_text"] = losses(base, text.rows, pad)
    del base
    method = METHODS.get(config["stage"])
    if method and method.reference_passes:
        log_probs = reference_log_probs(config, settings, pairs, pad)
        found["reference"] = {"beta": config["options"]["beta"], **log_probs}
    return found


def reference_log_probs(config: dict[str, Any], settings: dict[str, Any], pairs: Any, pad: int) -> Result:
    """Return the mean log-probs of both responses of each pair under the model that a stage started from.

    If that model was measured under the same settings, they are known.
    """
    try:
        found = read_json(measured(Path(config["start"]).parent, settings))
        return {side: [*map(float, found[side])] for side in SIDES}
    except (UserError, KeyError, TypeError):  # it was not measured, or the file is damaged
        pass
    model = load_alone(config["start"], config["start_revision"])
    return {side: mean_log_probs(model, pairs, f"{side}_ids", pad) for side in SIDES}
