"""Preference pairs on one row without padding: every prompt once, followed by its responses."""

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import accumulate, chain
from typing import Any

import torch
from torch import Tensor

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Pair:
    """The ids of a prompt and of its two responses, each with its stop token.

    Either response may be missing: SFT reads chosen ones alone, and KTO takes responses without a partner.
    """

    prompt: list[int]
    chosen: list[int]  # empty where there is none, as `rejected`
    rejected: list[int]
    # Summed log-probs of both responses under DPO's reference model, if known.
    reference: tuple[float, float] | None = field(default=None, kw_only=True)
    counted: bool = field(default=True, kw_only=True)  # False: zero weight, only to keep processes in step

    @property
    def tokens(self) -> int:
        """Tokens that a forward pass computes: the prompt is shared."""
        return len(self.prompt) + len(self.chosen) + len(self.rejected)

    @property
    def dialogue_tokens(self) -> int:
        """Tokens of the whole dialogues: the prompt counts in both."""
        return self.tokens + (len(self.prompt) if self.chosen and self.rejected else 0)


def collate(rows: Rows) -> dict[str, list[Pair]]:
    """Return a micro-batch, to be packed once all pairs of the optimizer step are known."""
    return {"pairs": [pair_of(row) for row in rows]}


def collate_demonstrations(rows: Rows) -> dict[str, list[Pair]]:
    """Return a micro-batch of prompts and chosen responses only."""
    return {"pairs": [Pair(row["prompt_ids"], row["chosen_ids"], []) for row in rows]}


def pair_of(row: dict[str, Any]) -> Pair:
    """Return a row's pair, with its responses' log-probs under the reference model, if known."""
    known = (row["ref_chosen_logps"], row["ref_rejected_logps"]) if "ref_chosen_logps" in row else None
    return Pair(row["prompt_ids"], row["chosen_ids"], row["rejected_ids"], reference=known)


def uncount(pairs: list[Pair], first: int) -> list[Pair]:
    """Return `pairs`; those from index `first` on are computed but not counted."""
    return [replace(pair, counted=place < first) for place, pair in enumerate(pairs)]


def balance(batches: list[list[Pair]]) -> list[list[Pair]]:
    """Distribute an optimizer step's pairs over the same number of micro-batches, with about equally many tokens each.

    The longest pair goes first, always to the micro-batch with the fewest tokens (Graham's LPT rule); the result
    depends only on the pairs and their order.
    """
    dealt: list[list[Pair]] = [[] for _ in batches]
    tokens = [0] * len(batches)
    for pair in sorted(chain.from_iterable(batches), key=lambda pair: -pair.tokens):
        least = tokens.index(min(tokens))
        dealt[least].append(pair)
        tokens[least] += pair.tokens
    return dealt


class Packing:
    """Where the dialogues are on a row `[prompt chosen | prompt chosen | … | rejected | rejected | …]`.

    Rejected responses come last, so that the queries of every sequence are contiguous: to an attention kernel, a row of
    P pairs is 2 P sequences, and the last P find their prompts among the keys of the first P.
    """

    def __init__(self, pairs: list[Pair]) -> None:
        self.lengths = [(len(pair.prompt), len(pair.chosen), len(pair.rejected)) for pair in pairs]

    @cached_property
    def spans(self) -> list[int]:
        """The lengths of the spans on the row: each prompt with its chosen response, then each rejected response."""
        return [prompt + chosen for prompt, chosen, _ in self.lengths] + [rejected for *_, rejected in self.lengths]

    @cached_property
    def starts(self) -> list[int]:
        """Where each span begins; the row's length is last."""
        return [0, *accumulate(self.spans)]

    @cached_property
    def sequences(self) -> list[tuple[slice, list[slice]]]:
        """The queries of every sequence, and its keys in one or two pieces."""
        spans = [slice(start, end) for start, end in zip(self.starts, self.starts[1:], strict=False)]
        count = len(self.lengths)
        prompts = [
            slice(span.start, span.start + prompt)
            for span, (prompt, *_) in zip(spans[:count], self.lengths, strict=True)
        ]
        own = [(span, [span]) for span in spans[:count]]
        rejected = zip(prompts, spans[count:], strict=True)
        return own + [(span, [prompt, span]) for prompt, span in rejected if span.start < span.stop]

    def mask(self, device: torch.device) -> Tensor:
        """Return an attention mask that carries this packing: some layers hand their attention nothing else.

        Of four dimensions, so that Transformers makes none, and empty, so that no other attention can read it.
        """
        mask: Any = torch.empty(1, 1, 1, 0, dtype=torch.bool, device=device)
        mask.packing = self
        return mask

    def varlen(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, int, int]:
        """Return the arguments of a variable-length kernel, computed once per row.

        Returns:
            The keys' positions on the row (each sequence's keys are contiguous, so prompts occur twice), where the
            queries and the keys of each sequence begin (int32, the end last), and the maximum length of both.
        """
        if not hasattr(self, "_varlen"):
            keys = [
                [place for piece in pieces for place in range(piece.start, piece.stop)] for _, pieces in self.sequences
            ]
            ends = [0, *accumulate(map(len, keys))]
            starts = [span.start for span, _ in self.sequences] + [self.starts[-1]]
            queries = [span.stop - span.start for span, _ in self.sequences]
            int32 = {"dtype": torch.int32, "device": device}
            self._varlen = (
                torch.tensor(list(chain.from_iterable(keys)), device=device),
                torch.tensor(starts, **int32),
                torch.tensor(ends, **int32),
                max(queries),
                max(map(len, keys)),
            )
        return self._varlen


@dataclass(frozen=True)
class PackedBatch:
    """The inputs of one forward pass over pairs on a row of T tokens, S of which are scored.

    Scored tokens are those of prompts, then of chosen, then of rejected responses. Both responses start after the
    prompt's last token, so that position is scored twice. For a reward model they are each response's last token.
    """

    input_ids: Tensor  # (1, T)
    position_ids: Tensor  # (1, T)
    packing: Packing
    scored: Tensor  # (S,), the positions on the row whose next token is scored, or that a reward model scores
    targets: Tensor | None  # (S,), those next tokens; None for a reward model
    counts: Tensor  # (3, pairs), numbers of scored tokens of a pair's prompt, chosen and rejected response
    counted: Tensor  # (2, pairs), float32: 1 for a chosen or rejected response that is there and counts, else 0
    reference: Tensor | None  # (2, pairs), float32: the responses' log-probs under the reference model, if known

    @property
    def weights(self) -> Tensor:
        """How much each pair counts, shape (pairs,): 1, half for a response without a partner, 0 for none that counts.

        So a mean over pairs, each of them the mean over its responses, is one over responses.
        """
        return self.counted.mean(0)

    @property
    def items(self) -> Tensor:
        """What the means of NLL and preference are divided by: tokens and pairs, weighted; shape (2,), float32."""
        return torch.stack([(self.counts[:2].sum(0) * self.weights).sum(), self.weights.sum()])

    def model_inputs(self) -> dict[str, Any]:
        """Return the arguments for a model prepared by `engine.forward.add_packed_forward`."""
        row = {"input_ids": self.input_ids, "position_ids": self.position_ids}
        mask = self.packing.mask(self.input_ids.device)
        return {**row, "attention_mask": mask, "scored": self.scored, "targets": self.targets}

    def to(self, device: torch.device) -> "PackedBatch":
        """Return the batch on a device, with its dtypes; Transformers under DeepSpeed would round floats to bf16."""
        values = {option.name: getattr(self, option.name) for option in fields(self)}
        return replace(self, **{name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)})


def pack(pairs: list[Pair], nll_span: str) -> PackedBatch:
    """Return the inputs of one forward pass over `pairs`, the pairs of one micro-batch.

    `nll_span` "full" scores the prompts' tokens too, "completion" the responses' only, and "last" predicts no token but
    scores each response's last one, as a reward model does.
    """
    packing = Packing(pairs)
    ids, tails = [], []
    positions, tail_positions = [], []
    for pair, (prompt, chosen, rejected) in zip(pairs, packing.lengths, strict=True):
        ids += [*pair.prompt, *pair.chosen]
        tails += pair.rejected
        positions += range(prompt + chosen)
        tail_positions += range(prompt, prompt + rejected)
    row = torch.tensor(ids + tails)
    scored, targets = last_places(packing) if nll_span == "last" else scored_places(packing, nll_span == "full")
    reference = [pair.reference for pair in pairs if pair.reference]
    return PackedBatch(
        input_ids=row[None],
        position_ids=torch.tensor(positions + tail_positions)[None],
        packing=packing,
        scored=torch.tensor(flat(scored)),
        targets=row[torch.tensor(flat(targets))] if targets else None,
        counts=torch.tensor([[len(part) for part in parts] for parts in scored]),
        counted=torch.tensor([there(pair) for pair in pairs], dtype=torch.float32).T,
        reference=torch.tensor(reference).T if reference else None,
    )


def there(pair: Pair) -> tuple[bool, bool]:
    """Return whether a pair has a chosen and a rejected response that count."""
    return pair.counted and bool(pair.chosen), pair.counted and bool(pair.rejected)


Places = tuple[list[list[int]], list[list[int]], list[list[int]]]


def flat(places: Places) -> list[int]:
    """Return all positions of prompts, then of chosen, then of rejected responses."""
    return list(chain.from_iterable(chain.from_iterable(places)))


def scored_places(packing: Packing, prompts: bool) -> tuple[Places, Places]:
    """Return, for prompts, chosen and rejected responses, per pair: the predicting positions and the predicted ones.

    Nothing predicts a dialogue's first token; if the prompt is empty, that is the response's first.
    """
    scored: Places = ([], [], [])
    targets: Places = ([], [], [])
    tails = packing.starts[len(packing.lengths) :]
    for start, tail, (prompt, chosen, rejected) in zip(packing.starts, tails, packing.lengths, strict=False):
        border = start + prompt
        dialogues = (
            list(range(start, border)) if prompts else [],
            list(range(max(border - 1, start), border + chosen)),
            [*range(max(border - 1, start), border), *range(tail, tail + rejected)],
        )
        for places, predicted, dialogue in zip(scored, targets, dialogues, strict=True):
            places.append(dialogue[:-1])
            predicted.append(dialogue[1:])
    return scored, targets


def last_places(packing: Packing) -> tuple[Places, None]:
    """Return the positions of every chosen and every rejected response's last token; nothing is predicted there."""
    pairs, ends = len(packing.lengths), [[end - 1] for end in packing.starts[1:]]
    return ([[] for _ in range(pairs)], ends[:pairs], ends[pairs:]), None
