"""The packed trainers of SFT, DPO and ORPO, and which engine has which trainer.

Each is TRL's trainer with another forward pass (`engine.trainer`); here stands what differs between the methods.
"""

import hashlib
import math
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import logsigmoid
from trl.trainer.utils import use_adapter

from recipes.config import UserError, read_json, write_json, write_text
from recipes.engine.log_probs import add_scoring
from recipes.engine.packing import Pair, collate, collate_demonstrations, pack, pair_of
from recipes.engine.self_check import evaluating
from recipes.engine.trainer import PackedTrainer, Terms
from recipes.odds import log_odds_ratio, log_probability_ratio
from recipes.trainers import DPOTrainer, ORPOTrainer, SFTTrainer

REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")  # TRL's names of the columns


class PackedSFTTrainer(PackedTrainer, SFTTrainer):
    """SFT: the mean negative log-likelihood over the tokens of an update."""

    def __init__(self, model: Any, args: Any, **options: Any) -> None:
        self.nll_span = "completion" if args.completion_only_loss else "full"
        super().__init__(model, args, data_collator=collate_demonstrations, **options)

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **options: Any) -> Dataset:
        return dataset

    def terms(self, sums: Tensor, counts: Tensor, inputs: dict[str, Any]) -> Terms:
        """Return the likelihood alone."""
        return Terms(nll=-sums[:2].sum(0), losses=sums.new_zeros(counts.shape[1]), metrics={})


class PackedORPOTrainer(PackedTrainer, ORPOTrainer):
    """ORPO: the likelihood and, lambda times, the odds ratio of equation 6, or appendix B's probability ratio."""

    def __init__(
        self, model: Any, args: Any, train_dataset: Dataset, eval_dataset: Dataset | None = None, **options: Any
    ) -> None:
        self.nll_span, self.splits_alike = args.nll_span, args.nll_mean == "update"
        # TRL maps three functions over all rows, none of which would change one: it gets a single row of each.
        first = {"train_dataset": train_dataset.select([0])}
        if eval_dataset is not None:
            first["eval_dataset"] = eval_dataset.select([0])
        super().__init__(model, args, data_collator=collate, **first, **options)
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        """Leave a row as it is."""
        return feature

    def terms(self, sums: Tensor, counts: Tensor, inputs: dict[str, Any]) -> Terms:
        """Return the two terms of equation 7; the metrics are of the odds ratio, whichever ratio is trained."""
        chosen, rejected = sums[1:] / counts[1:]
        log_odds, log_sigmoid = log_odds_ratio(chosen, rejected)
        metrics = rewards(self.beta * chosen, self.beta * rejected) | {
            **{"logps/chosen": chosen.detach(), "logps/rejected": rejected.detach()},
            **{"log_odds_ratio": log_sigmoid.detach(), "log_odds_chosen": log_odds.detach()},
        }
        if self.args.ratio == "probability":
            _, log_sigmoid = log_probability_ratio(chosen, rejected)
        return Terms(nll=-sums[:2].sum(0), losses=-self.beta * log_sigmoid, metrics=metrics)


class PackedDPOTrainer(PackedTrainer, DPOTrainer):
    """DPO: how much more the policy prefers the chosen answer than the reference model does."""

    nll_span = "completion"

    def __init__(self, model: Any, args: Any, eval_dataset: Dataset | None = None, **options: Any) -> None:
        # The reference model would score the held-out pairs at once, for nothing where none is evaluated.
        options["eval_dataset"] = eval_dataset if args.eval_strategy != "no" else None
        self.scoring_enabled = False
        super().__init__(model, args, data_collator=collate, **options)

    def enable_scoring(self) -> None:
        """Let policy and reference model score packed rows.

        TRL's constructor asks for the reference's log-probs before ours has come to this; either may be first.
        """
        if not self.scoring_enabled:
            super().enable_scoring()
            if self.ref_model is not None:
                add_scoring(self.accelerator.unwrap_model(self.ref_model))
        self.scoring_enabled = True

    def terms(self, sums: Tensor, counts: Tensor, inputs: dict[str, Any]) -> Terms:
        """Return equation 7 of the DPO paper (arXiv 2305.18290)."""
        reference = inputs["reference"] if "reference" in inputs else self.reference_sums(inputs)
        chosen, rejected = self.beta * (sums[1:] - reference)
        metrics = rewards(chosen, rejected) | {"logps/chosen": sums[1].detach(), "logps/rejected": sums[2].detach()}
        return Terms(losses=-logsigmoid(chosen - rejected), metrics=metrics)

    @torch.no_grad()
    def reference_sums(self, inputs: dict[str, Any]) -> Tensor:
        """Return the reference model's summed log-probs of both answers, shape (2, pairs), without dropout."""
        model: Any = self.model if self.ref_model is None else self.ref_model
        policy: Any = self.accelerator.unwrap_model(model)
        with ExitStack() as stack:
            stack.enter_context(self.accelerator.autocast())
            stack.enter_context(evaluating(model))
            if hasattr(policy, "peft_config"):  # without its adapters it is the model that the stage starts from
                stack.enter_context(use_adapter(policy, "ref" if "ref" in policy.peft_config else None))
            return self.score(model, inputs)[1:]

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """Return `dataset` with the reference model's log-probs of both answers, kept for a stage that is resumed."""
        self.enable_scoring()
        pairs = [pair_of(row) for row in dataset]  # type: ignore[arg-type]
        path = Path(str(self.args.output_dir)) / f"reference-{digest(pairs)}.json"
        try:
            known = read_json(path)
        except UserError:  # there is none, or a damaged one
            started = time.monotonic()
            sums = [list(found) for _, found in sorted(self.reference_of(pairs, batch_size).items())]
            known = {"seconds": time.monotonic() - started, "log_probs": sums}
            if self.accelerator.is_main_process:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, known)
        if name == "train":
            self.reference_seconds = known["seconds"]
        for place, column in enumerate(REFERENCE):
            dataset = dataset.add_column(column, [sums[place] for sums in known["log_probs"]])  # type: ignore[call-arg]
        return dataset

    def reference_of(self, pairs: list[Pair], batch_size: int) -> dict[int, tuple[float, float]]:
        """Score pairs of like length together; each process has its share, and all get the whole result."""
        order = sorted(range(len(pairs)), key=lambda place: -pairs[place].tokens)
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        processes, own = self.accelerator.num_processes, self.accelerator.process_index
        rounds = math.ceil(len(batches) / processes)
        found: dict[int, tuple[float, float]] = {}
        for done in range(rounds):
            # Sharded processes must run alike: where batches run out, one is scored twice.
            batch = batches[(done * processes + own) % len(batches)]
            inputs: Any = self._prepare_inputs(pack([pairs[place] for place in batch], self.nll_span))
            sums = self.reference_sums(inputs).T.tolist()
            found |= {place: (chosen, rejected) for place, (chosen, rejected) in zip(batch, sums, strict=True)}
            if own == 0:
                write_text(Path(str(self.args.output_dir)) / "progress", f"{done + 1} {rounds} reference")
        shares: Any = gather_object([found])
        return {place: sums for share in shares for place, sums in share.items()}


def digest(pairs: list[Pair]) -> str:
    """Return a name for these very ids, in their order."""
    found = hashlib.sha256()
    for pair in pairs:
        found.update(repr((pair.prompt, pair.chosen, pair.rejected)).encode())
    return found.hexdigest()[:8]


def rewards(chosen: Tensor, rejected: Tensor) -> dict[str, Tensor]:
    """Return TRL's metrics of implicit rewards, each of shape (pairs,)."""
    chosen, rejected = chosen.detach(), rejected.detach()
    right = (chosen > rejected).to(chosen.dtype)
    names = ("rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins")
    return dict(zip(names, (chosen, rejected, right, chosen - rejected), strict=True))


SFT_ENGINES = {"packed": PackedSFTTrainer, "stock": SFTTrainer}
DPO_ENGINES = {"packed": PackedDPOTrainer, "stock": DPOTrainer}
ORPO_ENGINES = {"packed": PackedORPOTrainer, "stock": ORPOTrainer}
