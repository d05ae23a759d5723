"""The lengths that a forecast starts from: of the prepared pairs if they exist, else as the profile estimates them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from launch.config.schema import Config
from launch.named.lengths import PARTS, counter_of, guess, lengths, means, pairs_of
from launch.named.sample import sample
from launch.stages.base_model import known_identity
from launch.stages.demonstrations import demonstrations_directory, demonstrations_of
from launch.stages.inputs import with_chat_template
from launch.stages.pairs import pairs_directory
from launch.stages.unpaired import check_rows
from recipes.config import UserError, read_json
from recipes.data.files import is_local
from recipes.data.schemas import read_demonstration
from recipes.methods import METHODS
from recipes.profiles import TEST, Estimate
from recipes.training.flops import causal


@dataclass(frozen=True)
class Tokens:
    """Pairs of the training split, and the mean tokens of their parts."""

    pairs: int
    prompt: float
    chosen: float
    rejected: float
    source: str  # of these figures
    # Mean pairs of a query and a key that it sees: of a prompt, and of the dialogues with the chosen and the rejected
    # response; None: as if all had the mean lengths.
    attended: tuple[float, float, float] | None = None
    demonstrations: "Tokens | None" = None  # that SFT trains on instead of the pairs
    # Of stages that train on responses without a partner too: these and the pairs; a missing response has no tokens.
    with_unpaired: "dict[str, Tokens]" = field(default_factory=dict)
    shared: float | None = None  # tokens of prompts that two responses share; None: every row is a pair
    held_out: int | None = None  # rows to evaluate on; None: unknown, they are published apart

    def of(self, stage: str) -> "Tokens":
        """Return what a stage trains on."""
        return (stage == "sft" and self.demonstrations) or self.with_unpaired.get(stage, self)

    @property
    def repeated(self) -> float:
        """Mean tokens of a row's prompt as far as a second response repeats them."""
        return self.prompt if self.shared is None else self.shared

    @property
    def seen(self) -> tuple[float, float, float]:
        """`attended`, estimated if unknown."""
        lengths = (self.prompt, self.prompt + self.chosen, self.prompt + self.rejected)
        return self.attended or (causal(lengths[0]), causal(lengths[1]), causal(lengths[2]))


def prepared_manifest(config: Config) -> dict[str, Any] | None:
    """Return the manifest of this configuration's pairs if they were prepared on this machine.

    Raises:
        UserError: their source is missing.
    """
    identity = known_identity(config.model)
    if identity is None:
        return None
    path = pairs_directory(with_chat_template(config), identity) / "manifest.json"
    return read_json(path) if path.exists() else None


def tokens_of(config: Config) -> Tokens:
    """Return the numbers and mean lengths of the pairs, and of what SFT trains on instead where that is named.

    Raises:
        UserError: neither counts nor an estimate are at hand.
    """
    return replace(of_pairs(config), demonstrations=of_demonstrations(config))


def of_demonstrations(config: Config) -> Tokens | None:
    """Return the number and mean lengths of `sft.dataset`'s rows; None where SFT trains on the pairs.

    Raises:
        UserError: they were not prepared, are not files, and their profile has no estimate.
    """
    dataset = demonstrations_of(config)
    if dataset is None:
        return None
    identity = known_identity(config.model)
    if identity is not None:
        own = with_chat_template(config)
        path = demonstrations_directory(own, dataset, identity, pairs_directory(own, identity)) / "manifest.json"
        if path.exists():
            return counted(read_json(path))
    if dataset.estimate.rows:
        return estimated(dataset.estimate, dataset.estimate.rows)
    if not is_local(dataset.path):
        raise UserError(
            f"sft.dataset={dataset.name}: its lengths are not known yet: make check-run with the same words prepares it"
        )
    rows, total = sample(dataset.path, dataset.train_split)
    found = pairs_of(rows, read_demonstration)
    if not found:
        raise UserError(f"sft.dataset: no demonstration was found in the first rows of {dataset.path}")
    sizes = means(lengths(found, counter_of(config.model.model_name_or_path) or guess))
    return estimated(Estimate(0, *sizes), round(total * len(found) / len(rows)))


def of_pairs(config: Config) -> Tokens:
    """Return the training pairs' number and mean lengths: from the prepared pairs, else from the profile's estimate.

    Raises:
        UserError: there is neither.
    """
    manifest = prepared_manifest(config)
    if manifest:
        check_rows(config, manifest)
        return counted(manifest)
    dataset, estimate = config.dataset, config.dataset.estimate
    if not estimate.rows:
        raise UserError(
            f"dataset={dataset.name}: its pairs are not prepared yet and its profile has no estimate: add "
            "dataset.estimate={rows:1000,prompt:100,chosen:200,rejected:200} (mean tokens)"
        )
    apart = dataset.test_path or dataset.test_split
    held_out = 0 if apart else max(2, round(estimate.rows * dataset.test_fraction))
    rows = min(estimate.rows - held_out, dataset.train_rows or estimate.rows)
    rows -= min(round(rows * (dataset.validation_fraction or 0)), dataset.test_rows or rows)
    rows -= round(rows * (dataset.judge_fraction or 0))
    return replace(estimated(estimate, rows), held_out=held_out or None)


def of_judge(config: Config, tokens: Tokens) -> Tokens:
    """Return what the judge is trained on, as long as what the policies are: its fraction of the same pairs."""
    fraction = config.dataset.judge_fraction or 0
    return replace(tokens, pairs=max(1, round(tokens.pairs * fraction / (1 - fraction))))


def estimated(estimate: Estimate, rows: int) -> Tokens:
    """Return the training pairs' number and mean lengths, as a profile estimates them."""
    return Tokens(rows, estimate.prompt, estimate.chosen, estimate.rejected, source="estimate")


def counted(manifest: dict[str, Any]) -> Tokens:
    """Return the training pairs' number and mean lengths, of prepared pairs, and of what comes with them."""
    tokens, attended = manifest["tokens"]["train"], manifest["attended"]["train"]
    pairs = {"rows": manifest["pairs"]["train"], "tokens": tokens, "attended": attended}
    single = manifest.get("unpaired", {}).get("train", {})
    found = {
        name: together([pairs, *(single[side] for side in method.unpaired)], tokens["prompt_ids"])
        for name, method in METHODS.items()
        if single and method.unpaired
    }
    alone = sum(side["rows"] for side in manifest.get("unpaired", {}).get(TEST, {}).values())
    held_out = manifest["pairs"].get(TEST, 0) + alone
    return replace(together([pairs], tokens["prompt_ids"]), with_unpaired=found, shared=None, held_out=held_out or None)


def together(parts: Sequence[dict[str, Any]], shared: int) -> Tokens:
    """Return the number and mean lengths of several parts' rows; of their prompts' tokens two responses share some."""
    rows = sum(part["rows"] for part in parts)
    count = max(rows, 1)
    means = (sum(part["tokens"][f"{name}_ids"] for part in parts) / count for name in PARTS)
    prompt, chosen, rejected = (sum(part["attended"][name] for part in parts) / count for name in PARTS)
    return Tokens(rows, *means, source="counted", attended=(prompt, chosen, rejected), shared=shared / count)
