"""AlpacaEval 2: win rate against reference responses, computed by `alpaca_eval`; annotations are scored as they are.

    python -m eval.alpaca [X …] [judge=MODEL url=… reference=FILE] [difficulty=FILE]

X is a file of annotations (JSON, also .gz), which is scored; or a stage, a session or a file of responses
(`instruction`, `output`), which `judge=MODEL` at `url=` compares with `reference=FILE` (the same format; AlpacaEval's
reference is gpt4_1106_preview). A stage responds to the instructions of the reference. The prompt, the order of the
responses and the reading of log-probs are those of `annotator=`, one of alpaca_eval's configurations.

The length-controlled win rate needs AlpacaEval's table of difficulties: `difficulty=df_gamed.csv` (from the Hub's data
set tatsu-lab/alpaca_eval). It is a fit over all prompts of the set, and is not reported for fewer than 300: there its
penalty shrinks it to exactly 50, whatever the responses. Its standard error is not an interval, and is left out.
"""

import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.answers.endpoint import Answering, Reply, host_class
from eval.answers.files import answered, endings_of, read_answers, read_rows, say_endings
from eval.answers.judging import (
    Judging,
    Question,
    account,
    announce,
    digest,
    judge_all,
    say_account,
    unanswered,
    weight_files,
)
from eval.answers.store import Sampling
from eval.commands.cli import models, run
from eval.results.alpaca_score import read_annotations, score
from recipes.config import UserError, write_json
from recipes.system.commands import output, progress

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # alpaca_eval imports pkg_resources
    level = logging.getLogger().level
    from alpaca_eval.annotators import PairwiseAnnotator
    from alpaca_eval.utils import prompt_to_chatml

    logging.getLogger().setLevel(level)  # which it raises for all libraries


@dataclass
class Options(Judging, Answering):
    """The options of the command line."""

    judge: str = ""  # not needed for a file of annotations
    reference: str | None = None
    annotator: str = "weighted_alpaca_eval_gpt4_turbo"
    difficulty: str | None = None
    prompts: int | None = None  # the first n instructions; null: all
    max_new_tokens: int = 2048  # of a response
    temperature: float = 0.0
    seed: int = 0


def answer(directory: Path, instructions: list[str], options: Options) -> Path:
    """Generate a stage's responses to the instructions, once; return the file, in AlpacaEval's format."""
    endpoint, who = options.elsewhere(), options.names_of_endpoint()
    name = digest(
        instructions, options.max_new_tokens, options.temperature, options.seed, *who, *weight_files(directory)
    )
    file = directory / "eval" / f"alpaca-answers-{name}.json"
    if not file.exists():
        from eval.answers.dialogues import answer_once  # takes seconds, which judging a file does not need

        sampling = Sampling(options.max_new_tokens, options.temperature, seed=options.seed)
        asked = [[{"role": "user", "content": instruction}] for instruction in instructions]
        with progress(len(asked), f"generate {directory}") as advance:
            found = answer_once(directory, asked, sampling, advance, endpoint)
        rows = [
            {"instruction": instruction, "output": one.text, "generator": str(directory)}
            | {"stopped": one.stopped, "tokens": one.tokens}
            for instruction, one in zip(instructions, found, strict=True)
        ]
        file.parent.mkdir(exist_ok=True)
        write_json(file, rows)
    return file


def annotate(file: Path, options: Options) -> tuple[list[dict[str, Any]], dict[str, Any], Path]:
    """Let the judge compare a file of responses with the reference; return annotations, their account and their file.

    Raises:
        UserError: the two files have no instruction in common, or the judge fails.
    """
    ours, theirs = read_answers(file), read_answers(Path(str(options.reference)))
    common = [instruction for instruction in theirs if instruction in ours][: options.prompts]
    if not common:
        raise UserError(f"{file} and {options.reference} share no instruction: give responses to the same prompts")
    try:
        annotator: Any = PairwiseAnnotator(annotators_config=options.annotator, caching_path=None)
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"annotator={options.annotator} is no configuration of alpaca_eval: choose one from its leaderboard"
        ) from None
    (name, single), *_ = annotator.annotators.items()
    texts = [[one, theirs[one], ours[one]] for one in common]
    who = (name, single.prompt_template, options.judge, host_class(options.url))
    kept = file.parent / f"alpaca-{digest(who, texts)}.jsonl"
    found = ask_through(single, kept, options)
    first, second = (
        [{"instruction": one, "output": side[one], "generator": label} for one in common]
        for side, label in ((theirs, "reference"), (ours, str(file)))
    )
    logging.disable()  # it would print a stack trace for every malformed reply; we count them instead
    try:
        annotated = annotator.annotate_head2head(first, second, chunksize=None)
    finally:
        logging.disable(logging.NOTSET)
    preferences = {row["instruction"]: row["preference"] for row in annotated}
    rows = [
        {"instruction": one, "output_1": theirs[one], "generator_1": "reference", "output_2": ours[one]}
        | {"generator_2": str(file), "annotator": name, "preference": preferences.get(one)}
        for one in common
    ]
    return rows, account(found, options, f"{name} {digest(single.prompt_template)}"), kept


def ask_through(single: Any, file: Path, options: Options) -> list[dict[str, Any]]:
    """Let alpaca_eval's annotator query the judge as our other suites do; return the list that gets its verdicts."""
    found: list[dict[str, Any]] = []
    request = {key: value for key, value in single.completions_kwargs.items() if key != "model_name"}

    def completions(prompts: list[str], **_: Any) -> dict[str, list[Any]]:
        """Replace alpaca_eval's own decoder."""
        asked = [Question(str(number), prompt_to_chatml(prompt)) for number, prompt in enumerate(prompts)]
        announce(unanswered(asked, file), len(asked), options, request.get("max_tokens", 0))
        found.extend(judge_all(asked, lambda reply: read(single, reply), file, options, **request))
        whole = [{"text": one["text"], "logprobs": one["logprobs"]} for one in found]
        return {"completions": [one["text"] for one in found], "completions_all": whole}

    single.fn_completions, single.completions_kwargs = completions, {}
    return found


def read(single: Any, reply: Reply) -> float | None:
    """Return the preference that alpaca_eval's own parser finds in a reply, 1 to 2 in the order shown, or None."""
    whole: Any = {"text": reply.text, "logprobs": reply.logprobs}
    try:
        (found,) = single.fn_completion_parser(whole if single.completion_key == "completions_all" else reply.text)
    except Exception:  # whatever a parser raises: there is no verdict
        return None
    return None if found is None or not 1 <= found <= 2 else float(found)


def evaluate(path: Path, options: Options) -> dict[str, Any]:
    """Score a file of annotations, or judge responses; write annotations and figures, and return the figures.

    Raises:
        UserError: an option or a file is missing, or the judge fails.
    """
    if path.is_file() and "preference" in read_rows(path)[0]:
        return {"model": str(path), **score(read_annotations(path), options.difficulty)}
    if not options.judge or not options.reference:
        raise UserError(f"{path} has no annotations: add judge=MODEL and reference=FILE, responses to compare with")
    if path.is_dir():
        path = answer(path, list(read_answers(Path(options.reference)))[: options.prompts], options)
    rows, found, kept = annotate(path, options)
    said = answered(path)
    found["answers"] = endings_of([said[row["instruction"]] for row in rows])
    write_json(kept.with_name(f"{kept.stem}-annotations.json"), rows)
    result = {"model": str(path), **score(rows, options.difficulty), **found}
    write_json(kept.with_suffix(".json"), result)
    return result


def say(result: dict[str, Any]) -> None:
    """Print AlpacaEval's figures."""
    output.print(result["model"], soft_wrap=True)
    if "win_rate" in result:
        low, high = result["win_rate_interval"]
        output.print(
            f"  win rate {result['win_rate']:.4f} [{low:.2f}, {high:.2f}], standard error "
            f"{result['standard_error']:.4f}, over {result['judged']} prompts, {result['malformed']} malformed; "
            f"mean length {result['mean_length']:.0f}, the reference's {result['reference_mean_length']:.0f}",
            soft_wrap=True,
        )
        controlled = result["length_controlled_winrate"]
        output.print(
            f"  length-controlled {controlled:.4f} (no interval: a fit)"
            if controlled is not None
            else f"  not length-controlled: {result['not_length_controlled']}",
            soft_wrap=True,
        )
    if "judge" in result:
        say_endings("its responses", result["answers"])
        say_account(result)


def main(names: list[str], options: Options) -> None:
    """Evaluate and print."""
    for path in models(names):
        say(evaluate(path, options))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Options, main))
