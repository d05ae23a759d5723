"""Diversity and verbosity of responses: the mean pairwise cosine of their embeddings (the paper's Table 4).

    python -m eval.diversity [SESSION or stage directory …] [samples=5] [prompts=160] [questions=FILE] [embedder=MODEL]

Lower is more diverse. *Per input*: the mean cosine over all pairs of responses to one prompt, averaged over prompts
(equation 14). *Across inputs*: the mean cosine over all pairs of prompts, between their first responses (equation 15).

The paper's equation 13 divides half the sum over the pairs i < j by N (N - 1). For unit vectors that is at most 0.25,
and the table has values up to 0.90, so it must be the plain mean over the N (N - 1) / 2 pairs, which the text calls the
average cosine similarity. We compute that mean. The paper embeds with Gemini-Pro: 160 queries of AlpacaEval, 5
responses each at temperature 1 (it says 8 for *across inputs*).

Here an embedding is the mean of the last hidden states over a response's tokens, of the named model (a
sentence-transformers model, or any other that Transformers loads), else of the base model, the same for all pipelines.
Compare cosines of one embedder only: those of a language model's states are near 1.
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.answers.endpoint import Answering
from eval.answers.store import Answer, Sampling
from eval.commands.cli import run, show, stages
from eval.results.prompts import held_out_prompts
from eval.results.result import measured
from eval.results.session import read_measured
from eval.results.statistics import Estimate, estimate
from recipes.config import UserError, write_json
from recipes.data.findings import evaluation_prompts
from recipes.system.commands import output, progress

if TYPE_CHECKING:
    from recipes.data.chat import Message

LIMIT = 512  # tokens of a response if no session says


@dataclass
class Options(Answering):
    """The options of the command line; the defaults are the paper's."""

    samples: int = 5  # responses per prompt
    prompts: int = 160
    temperature: float = 1.0
    seed: int = 0
    max_new_tokens: int = 0  # of a response; 0: the session's, else `LIMIT`
    questions: str = ""  # a file of prompts; empty: the held-out prompts
    embedder: str = ""


def main(names: list[str], options: Options) -> None:
    """Generate and embed responses, and print a table.

    Raises:
        UserError: the user can fix it.
    """
    if options.samples < 2 or options.prompts < 2 or options.temperature <= 0:
        raise UserError("samples and prompts must be at least 2 and temperature above 0, to compare pairs of responses")
    endpoint, found = options.elsewhere(), {}
    from eval.answers.generate import answer
    from eval.answers.load import untuned

    for directory, settings in stages(names).items():
        questions = asked(directory, settings, options)
        limit = options.max_new_tokens or settings.get("max_new_tokens", LIMIT)
        sampling = Sampling(limit, options.temperature, options.samples, options.seed)
        with progress(len(questions) * sampling.samples, f"eval  {directory}") as advance:
            found[directory] = answer(directory, questions, sampling, advance, endpoint)
    table = {}
    for directory, answers in found.items():
        place = (options.embedder, None) if options.embedder else untuned(directory)
        values = diversity(answers, *place)
        kept = {"settings": asdict(options), "embedder": place[0], **values}
        write_json(measured(directory, asdict(options), "diversity"), kept)
        table[directory.name] = figures(values, answers)
    show("mean cosine of responses: lower is more diverse", table)
    output.print(
        "Brackets: 95% interval over prompts. Files: eval/diversity-*.json, answers.jsonl in each stage directory."
    )


def asked(directory: Path, settings: dict[str, Any], options: Options) -> "list[list[Message]]":
    """Return the prompts of a file, or the held-out ones.

    Raises:
        UserError: there are none.
    """
    if options.questions:
        texts = evaluation_prompts([options.questions])[: options.prompts]
        return [[{"role": "user", "content": text}] for text in texts]
    if "pairs" not in settings:
        raise UserError(f"{directory} has no held-out pairs: give questions=<file>, or name a session")
    return list(held_out_prompts(settings)["prompt"])[: options.prompts]


def diversity(answers: list[list[Answer]], embedder: str, revision: str | None) -> dict[str, list[float]]:
    """Return for each prompt the mean cosine among its responses, and of its first response to the other prompts'."""
    from eval.answers.embed import embed

    flat = embed([one.text for row in answers for one in row], embedder, revision)
    vectors = flat.reshape(len(answers), -1, flat.shape[1])
    within = [float(mean_cosines(row).mean()) for row in vectors]
    return {"within": within, "across": mean_cosines(vectors[:, 0]).tolist()}


def mean_cosines(vectors: np.ndarray) -> np.ndarray:
    """Return each vector's mean cosine to the others; `vectors` has shape (N, width), N at least 2.

    The mean of the result is the mean over all pairs.
    """
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    return (cosines.sum(1) - cosines.diagonal()) / (len(vectors) - 1)


def kept(directories: list[Path]) -> tuple[dict[str, Estimate], int]:
    """Return both means for one model per seed, measured with this suite's defaults, and the number of prompts.

    Raises:
        UserError: the suite has not measured a model.
    """
    files = [measured(directory, asdict(Options()), "diversity") for directory in directories]
    found = [read_measured(file, ("within", "across")) for file in files]
    within, across = (np.array([values[name] for values in found]) for name in ("within", "across"))
    return {"per input": estimate(within), "across inputs": over_pairs(across)}, within.shape[1]


def over_pairs(across: np.ndarray) -> Estimate:
    """Return the mean over pairs of prompts, from each prompt's mean cosine to the others; shape (seeds, prompts).

    A mean over pairs of prompts is not a mean over prompts: each prompt is in many pairs, so the prompts' spread counts
    twice (Hoeffding 1948), and the seeds' once.
    """
    seeds = across.mean(1, keepdims=True)
    return estimate(seeds + 2 * (across - seeds))


def figures(values: dict[str, list[float]], answers: list[list[Answer]]) -> dict[str, Estimate | float | str | None]:
    """Return the rows of a model's column: both means, the responses' length, and how many end with a stop token."""
    every = [one for row in answers for one in row]
    lengths = np.array([[one.tokens for one in row] for row in answers], dtype=float)
    stopped = float(np.mean([one.stopped for one in every]))
    return {
        "per input": estimate(np.array(values["within"])[None]),
        "across inputs": over_pairs(np.array(values["across"])[None]),
        "mean length, tokens": estimate(lengths.mean(1)[None]),
        "ended with a stop token": stopped,
        "truncated at max_new_tokens": 1 - stopped,
    }


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Options, main))
