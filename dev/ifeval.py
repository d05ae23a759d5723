"""IFEval of SmolLM2-135M-Instruct beside its published figure: the last table of docs/real.md.

    python -m dev.ifeval MODEL data=input_data.jsonl

MODEL is the model's directory, and `data` has IFEval's 541 prompts. docs/ifeval.json keeps what was found of each
prompt, without its text.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import MISSING
from scipy.stats import bootstrap
from transformers import AutoTokenizer

from eval.commands.cli import run
from eval.harness import VERSION, evaluate, read_results
from eval.harness import Options as HarnessOptions
from eval.readme import fill
from eval.results.cells import ABSENT, markdown
from recipes.config import UserError, write_json
from recipes.system.commands import output
from recipes.system.paths import ROOT
from recipes.system.versions import versions

FIGURES = ROOT / "docs" / "ifeval.json"
# huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct, "IFEval (Average prompt/inst)", by lighteval
PUBLISHED = 29.9
LIMIT = 512  # tokens of a response: the longest that a CPU writes 541 times within half an hour
AT_LIMIT = 0.99  # of the limit: lm-eval keeps texts, and tokenized again they may have a token less
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


def main(names: list[str], options: Options) -> None:
    """Measure, keep the figures, and write the table.

    Raises:
        UserError: not exactly one model was named.
    """
    if len(names) != 1:
        raise UserError("name one model directory")
    model = Path(names[0])
    asked = HarnessOptions(tasks="ifeval", data=options.data, batch_size=64, gen_kwargs=f"max_gen_toks={LIMIT}")
    found = kept(read_results(evaluate(model, asked)), model)
    write_json(FIGURES, found)
    fill(ROOT / "docs" / "real.md", "ifeval", block(found))
    output.print(block(found), soft_wrap=True)


def kept(found: dict[str, Any], model: Path) -> dict[str, Any]:
    """Return lm-eval's verdicts on each response, with its length in tokens, and what they were made with."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = [
        {
            "key": sample["doc"]["key"],
            **{check: sample[f"inst_level_{check}_acc"] for check in CHECKS},
            "tokens": len(tokenizer(sample["resps"][0][0], add_special_tokens=False)["input_ids"]),
        }
        for sample in found["samples"]["ifeval"]
    ]
    return {"model": model.name, "limit": LIMIT, "versions": versions() | {"lm_eval": VERSION}, "responses": rows}


def block(found: dict[str, Any]) -> str:
    """Return the table, and what the limit of tokens may have cost."""
    rows = found["responses"]
    lines = [["", "strict", "loose", "published, strict"]]
    for title, weights in LEVELS.items():
        published = f"{PUBLISHED:.1f}" if all(weights) else ABSENT
        lines.append([title, *(interval(rows, check, weights) for check in CHECKS), published])
    both = LEVELS["mean of both"]
    cut = [row for row in rows if row["tokens"] >= AT_LIMIT * found["limit"]]
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
