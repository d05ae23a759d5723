"""IFEval of SmolLM2-135M-Instruct beside its published figure: the last table of docs/real.md.

    python -m dev.ifeval MODEL data=input_data.jsonl

MODEL is what `make` takes as MODEL=, and `data` has IFEval's 541 prompts. The responses are kept: after an interruption
the same command resumes. docs/ifeval.json keeps lm-eval's verdicts on each, without texts.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import MISSING
from scipy.stats import bootstrap

from eval.answers.generate import answer
from eval.answers.store import Answer, Sampling
from eval.commands.cli import run
from eval.harness import VERSION, evaluate, read_results
from eval.harness import Options as HarnessOptions
from eval.readme import fill
from eval.results.cells import markdown
from eval.results.statistics import ABSENT
from launch.pairs import Options as ModelOptions
from launch.pairs import model_of
from recipes.config import UserError, read_config, read_json_rows, write_json, write_text
from recipes.system.commands import output, progress
from recipes.system.paths import ROOT
from recipes.system.versions import versions

FIGURES = ROOT / "docs" / "ifeval.json"
# huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct, "IFEval (Average prompt/inst)", by lighteval
PUBLISHED = 29.9
LIMIT = 512  # tokens of a response: 541 longer ones would take a CPU hours
CHECKS = ("strict", "loose")
LEVELS = {
    "prompts with every instruction followed": (1.0, 0.0),
    "instructions followed": (0.0, 1.0),
    "mean of both": (0.5, 0.5),
}  # title -> weights of the two levels


@dataclass
class Options:
    """The options of the command line."""

    data: str = MISSING  # IFEval's prompts, as its authors publish them
    runs: str = "runs"  # where the responses are kept


def main(names: list[str], options: Options) -> None:
    """Answer all prompts greedily, have lm-eval check the responses, keep its verdicts, and write the table.

    Raises:
        UserError: not exactly one model was named, or the prompts cannot be read.
    """
    if len(names) != 1:
        raise UserError("name one model")
    directory = model_of(ModelOptions(model=names[0], runs=options.runs))
    given = read_json_rows(Path(options.data))
    if not all(isinstance(row, dict) and row.get("prompt") for row in given):
        raise UserError(f"data={options.data}: rows without a prompt; give IFEval's input_data.jsonl")
    prompts = [row["prompt"] for row in given]
    asked: list[Any] = [[{"role": "user", "content": prompt}] for prompt in prompts]
    with progress(len(prompts), f"ifeval  {directory}") as advance:
        responses = answer(directory, asked, Sampling(LIMIT, 0.0), advance)
    answers = {prompt: found for prompt, (found,) in zip(prompts, responses, strict=True)}
    file = directory / "eval" / "ifeval.jsonl"
    rows = [{"prompt": prompt, "response": found.text} for prompt, found in answers.items()]
    write_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    results = read_results(evaluate(file, HarnessOptions(tasks="ifeval", data=options.data)))
    found = kept(results, answers, read_config(directory)["model"]["name"])
    write_json(FIGURES, found)
    fill(ROOT / "docs" / "real.md", "ifeval", block(found))
    output.print(block(found), soft_wrap=True)


def kept(found: dict[str, Any], answers: dict[str, Answer], model: str) -> dict[str, Any]:
    """Return lm-eval's verdicts on each response, with its length and end, and what they were made with."""
    rows = [
        {
            "key": sample["doc"]["key"],
            **{check: sample[f"inst_level_{check}_acc"] for check in CHECKS},
            "tokens": answers[sample["doc"]["prompt"]].tokens,
            "stopped": answers[sample["doc"]["prompt"]].stopped,
        }
        for sample in found["samples"]["ifeval"]
    ]
    return {"model": model, "limit": LIMIT, "versions": versions() | {"lm_eval": VERSION}, "responses": rows}


def block(found: dict[str, Any]) -> str:
    """Return the table, and what the limit of tokens may have cost."""
    rows = found["responses"]
    lines = [["", "strict", "loose", "published, strict"]]
    for title, weights in LEVELS.items():
        published = f"{PUBLISHED:.1f}" if all(weights) else ABSENT
        lines.append([title, *(interval(rows, check, weights) for check in CHECKS), published])
    both = LEVELS["mean of both"]
    cut = [row for row in rows if not row["stopped"]]
    best = [row | {"strict": [True] * len(row["strict"])} if row in cut else row for row in rows]
    return "\n".join(
        [
            *markdown(lines),
            "",
            f"{len(rows)} prompts, greedy, at most {found['limit']} tokens a response; brackets are 95% intervals over "
            f"prompts. Responses cut off at the limit: {len(cut)}. Had these followed every instruction, the mean of "
            f"both would be {100 * level(*counts(best, 'strict'), both):.1f}.",
        ]
    )


def counts(rows: list[dict[str, Any]], check: str) -> tuple[np.ndarray, np.ndarray]:
    """Return, of each response, how many instructions it was given and how many of them it followed."""
    return np.array([len(row[check]) for row in rows]), np.array([sum(row[check]) for row in rows])


def level(given: np.ndarray, followed: np.ndarray, weights: tuple[float, float]) -> float:
    """Return the weighted mean of the share of prompts that are followed in full and that of instructions."""
    return weights[0] * float(np.mean(given == followed)) + weights[1] * float(followed.sum() / given.sum())


def interval(rows: list[dict[str, Any]], check: str, weights: tuple[float, float]) -> str:
    """Return a level in per cent, with its bootstrap interval over prompts."""
    data = counts(rows, check)
    drawn = bootstrap(
        data,
        lambda given, followed: level(given, followed, weights),
        paired=True,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return f"{100 * level(*data, weights):.1f}<br>[{100 * drawn.low:.1f}, {100 * drawn.high:.1f}]"


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Options, main))
