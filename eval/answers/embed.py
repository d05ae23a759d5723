"""Embed texts: the mean of a model's last hidden states over the tokens."""

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from eval.answers.batching import TOKENS, by_length
from eval.answers.load import pretrained


@torch.inference_mode()
def embed(texts: list[str], embedder: str, revision: str | None) -> np.ndarray:
    """Return the mean last hidden state of each text, float64 of shape (texts, width).

    An empty text has no token and is embedded as the tokenizer's padding.

    Raises:
        UserError: there is no such model.
    """
    disable_progress_bar()
    tokenizer = pretrained(AutoTokenizer, embedder, revision)
    model = pretrained(AutoModel, embedder, revision, dtype=torch.float32).eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    blank = tokenizer.pad_token_id or tokenizer.eos_token_id or 0
    longest = getattr(model.config, "max_position_embeddings", None)
    ids = [row[:longest] or [blank] for row in tokenizer(texts)["input_ids"]]
    vectors = np.zeros((len(texts), model.config.hidden_size))
    for batch in by_length([len(row) for row in ids], TOKENS):
        width = len(ids[batch[0]])
        mask = torch.tensor([[1] * len(ids[n]) + [0] * (width - len(ids[n])) for n in batch], device=model.device)
        padded = torch.tensor([ids[n] + [blank] * (width - len(ids[n])) for n in batch], device=model.device)
        states = model(input_ids=padded, attention_mask=mask).last_hidden_state.double() * mask[..., None]
        vectors[batch] = (states.sum(1) / mask.sum(1, keepdim=True)).cpu().numpy()
    return vectors
