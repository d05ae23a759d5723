"""Floating-point operations of a training: one count for records, `make plan` and `budget=flops`; no PyTorch.

A product of a token with a matrix takes two operations per weight (Kaplan et al. 2020, section 2.1): in the forward
pass, for the gradient of the activations, and for that of the weights if they train. Attention takes four per layer,
channel of its queries, and pair of a query and a key that it sees (scores and their weighted sum), and twice that in
the backward pass. It is causal, so a sequence of n tokens has n (n + 1) / 2 such pairs. An embedding is looked up,
which takes none. The head counts where logits are computed, or a reward. What is computed again to save memory does not
count.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Matrices:
    """The weights with which tokens are multiplied, and the width of attention."""

    body: int  # all weights but embeddings and LM head; norms and biases are few and count as the others
    trained: int  # those of them that train
    head: int  # the LM head, whether or not it is the embedding too; a reward model's single output
    head_trained: int
    attention: int  # layers times the channels of a layer's queries


@dataclass(frozen=True)
class Reading:
    """What passes through a model."""

    tokens: float  # with padding, a shared prompt once
    scored: float  # positions whose logits are computed
    attended: float  # pairs of a query and a key that it sees

    def times(self, count: float) -> "Reading":
        """Return as much, so many times."""
        return Reading(count * self.tokens, count * self.scored, count * self.attended)


def causal(length: float) -> float:
    """Return the pairs of a query and a key that it sees, in a sequence of so many tokens."""
    return length * (length + 1) / 2


def forward(model: Matrices, read: Reading) -> float:
    """Return the operations of a forward pass."""
    return 2 * (model.body * read.tokens + model.head * read.scored) + 4 * model.attention * read.attended


def training(model: Matrices, read: Reading) -> float:
    """Return the operations of a forward and a backward pass."""
    of_activations = 2 * (model.body * read.tokens + model.head * read.scored) + 8 * model.attention * read.attended
    of_weights = 2 * (model.trained * read.tokens + model.head_trained * read.scored)
    return forward(model, read) + of_activations + of_weights
