"""Log-probs of held-out pairs: one definition for every method and trainer.

TRL's own `rewards/*` mean something else in DPO (sums against a reference) than in ORPO (means); no table uses them.
"""

import torch
from datasets import Dataset
from transformers import PreTrainedModel

from eval.answers.batching import TOKENS, by_length

LOGITS = 10**9  # bytes of one batch's logits in float32; 1,644 tokens for a vocabulary of 152k


Row = tuple[list[int], list[int]]  # the ids of a prompt and of its response


def mean_log_probs(model: PreTrainedModel, pairs: Dataset, answer: str, pad: int) -> list[float]:
    """Return `log_probs_of` the responses in the column `answer` (`chosen_ids` or `rejected_ids`) of pairs."""
    return log_probs_of(model, [(row["prompt_ids"], row[answer]) for row in pairs], pad)  # type: ignore[index]


@torch.inference_mode()
def log_probs_of(model: PreTrainedModel, rows: list[Row], pad: int) -> list[float]:
    """Return log P(y|x) / |y| in nats per token (the paper's equation 3) of each row; 0 for an empty response.

    `pad` is any token, no token attends to it. Log-probs are float32 whatever the model's dtype.
    """
    values = [0.0] * len(rows)
    budget = min(TOKENS, LOGITS // (4 * model.config.get_text_config().vocab_size))
    for batch in by_length([len(prompt) + len(ids) for prompt, ids in rows], budget):
        width = max(len(rows[index][0]) + len(rows[index][1]) for index in batch)
        ids = torch.full((len(batch), width), pad)
        labels = torch.full((len(batch), width), -100)
        for place, index in enumerate(batch):
            prompt, response = rows[index]
            end = len(prompt) + len(response)
            ids[place, :end] = torch.tensor(prompt + response)
            labels[place, len(prompt) : end] = torch.tensor(response)
        for index, value in zip(batch, score(model, ids, labels), strict=True):
            values[index] = value
    return values


def score(model: PreTrainedModel, ids: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """Return the mean log-prob of the labelled tokens of each row; `ids` and `labels` have shape (rows, tokens)."""
    ids, labels = ids.to(model.device), labels.to(model.device)
    seen = torch.arange(ids.shape[1], device=ids.device) <= (labels != -100).long().cumsum(1).argmax(1, keepdim=True)
    targets = labels[:, 1:]
    answered = (targets != -100).any(0).nonzero().squeeze(1)  # no logits where every row has prompt or padding
    logits = model(input_ids=ids, attention_mask=seen.long(), logits_to_keep=answered).logits.float()
    targets = targets[:, answered]
    scored = targets != -100
    log_probs = logits.log_softmax(-1).gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return ((log_probs * scored).sum(1) / scored.sum(1).clamp(min=1)).tolist()
