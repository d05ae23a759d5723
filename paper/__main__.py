"""`make paper`: the tables and figures of the ORPO paper, as we measure them.

    python -m paper [scale=embedded] [seed=0,1,2] [option=value …]

Everything is trained and evaluated in the embedded world, and printed beside the published values, in runs/_paper.
Finished steps are skipped: the same command resumes an interrupted run. `scale=full` plans the same on the paper's
models and data, and trains what fits this machine. Other options go to every launch.
"""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launch.config.machine import gpu_memories
from launch.config.schema import register
from launch.plan import composed
from launch.stages.command import module
from launch.stages.processes import finish, start
from paper.full_scale import plan_full
from recipes.config import UserError, read_json
from recipes.system.commands import GOES_ON, console, run_command
from recipes.system.errors import USER

ROOT = Path("runs", "_paper")
SESSIONS = ROOT / "_sessions"
SEEDS = "seed=0,1,2"
SIZES = {"small": "pocket-small", "middle": "pocket", "large": "pocket-large"}  # OPT-125M, 350M and 1.3B in the paper
# Options that define an exhibit: the user's would come later on the command line, and win.
FIXED = ("model", "dataset", "pipeline", "pipelines", "runs", "session", "evaluate", "orpo.beta", "orpo.ratio")
FIXED += ("eval_split", "compare_with", "rloo.reward_model")
FIXED += ("sft.save_total_limit", "dpo.save_total_limit", "orpo.save_total_limit")
KEPT = ("sft.save_total_limit=null", "dpo.save_total_limit=null", "orpo.save_total_limit=null")  # for figures 3 and 7


@dataclass(frozen=True)
class Step:
    """A command, and the parts of the paper that it is for."""

    purpose: str
    command: list[str]


def steps(options: list[str]) -> Iterator[Step]:
    """Yield the steps in order; a later step may read the results of an earlier one."""
    yield train("middle", "tables 1 and 4, figures 3, 5 and 7, section 7.3", "pipeline=all", *KEPT, *options)
    yield train("judge", "tables 2 and 3: the judge of the responses", "pipeline=reward", *without_seeds(options))
    for size in ("small", "large"):
        yield train(size, "tables 2 and 3", "pipeline=all", *reward_of_the_middle(), *options)
    ablation = ("pipeline=orpo", "evaluate=true", KEPT[-1], *options)
    yield train("weight", "figure 9", "orpo.beta=0.1,0.5,1", *ablation)
    yield train("ratio", "figure 8", "orpo.ratio=odds,probability", *ablation)
    judge = reward_model("judge")
    for size in SIZES:
        yield evaluate(
            "reward", "figure 5" if size == "middle" else "tables 2 and 3", SESSIONS / size, f"model={judge}"
        )
    yield evaluate("diversity", "table 4", SESSIONS / "middle")
    yield Step("figure 6", module("paper.ratios", ROOT))
    yield Step("figures 3, 7, 8 and 9, the claims, and the page with everything", module("paper.page", ROOT))


def train(session: str, purpose: str, *words: str) -> Step:
    """Return the step that launches the session of this name."""
    model = SIZES.get(session, SIZES["large"] if session == "judge" else SIZES["middle"])
    given = (f"model={model}", f"runs={ROOT}", f"session={session}", "eval_split=test")  # no sweep chooses anything
    return Step(purpose, module("launch", "--multirun", *given, *words))


def evaluate(suite: str, purpose: str, *words: object) -> Step:
    """Return the step that runs an evaluation suite."""
    return Step(purpose, module(f"eval.{suite}", *words))


def without_seeds(options: list[str]) -> list[str]:
    """Return the options for a session with one seed."""
    return [word for word in options if not word.startswith("seed=")]


def reward_of_the_middle() -> tuple[str, str]:
    """Return the options that train the other sizes against the middle size's reward model, as in the paper.

    That is the first seed's. The middle size has one per seed, so that its whole cost is counted.
    """
    return ("pipelines.rlhf=[sft,rloo]", f"rloo.reward_model={reward_model('middle')}/model")


def reward_model(session: str) -> Path:
    """Return the first reward model that a session trained.

    Raises:
        UserError: it trained none.
    """
    stages = read_json(SESSIONS / session / "0" / "job.json")["pipelines"].values()
    found = [stage for part in stages for stage in part if Path(stage).name.startswith("reward-")]
    if not found:
        raise UserError(f"{SESSIONS / session} has no reward model: run the same command again")
    return Path(found[0])


def run(options: list[str]) -> int:
    """Run every step; return the exit status of the first that fails, or 0.

    Steps are forked from one process with PyTorch imported, except where a launcher starts jobs from several threads.
    """
    started = time.monotonic()
    warm = not gpu_memories() and not any(word.startswith("launcher=") for word in options)
    for step in steps(options):
        minutes = (time.monotonic() - started) / 60
        console.rule(f"{step.purpose}  ({minutes:.0f} min so far)", align="left")
        console.print(f"$ {' '.join(['python', *step.command[1:]])}", soft_wrap=True)
        status = finish(start(step.command, None, dict(os.environ), warm))
        if status:
            if status != USER:
                console.print("error: stopped; run the same command to resume", style="red")
            return status if status > 0 else 1
    console.print(f"{(time.monotonic() - started) / 60:.0f} minutes", soft_wrap=True)
    return 0


def refuse(scale: str, options: list[str]) -> None:
    """Reject words that would fail in the first launch, or change an exhibit.

    Raises:
        UserError: a word is invalid; the message names it.
    """
    if scale not in ("embedded", "full"):
        raise UserError(f"scale={scale}: choose embedded or full")
    for word in options:
        name, equals, value = word.lstrip("+~").partition("=")
        if not equals or not value:
            raise UserError(f"{word}: give options as name=value")
        if name in FIXED or name.startswith("pipelines."):
            raise UserError(f"{name} is fixed by the paper's tables and figures: remove it")
    if scale == "embedded":
        register()
        composed([f"model={SIZES['middle']}", "pipeline=all", *(word for word in options if "," not in word)])


def main(words: list[str]) -> int:
    """Run the command line; return the exit status: 0, or 1 for a crash.

    Raises:
        UserError: an option is invalid.
    """
    if {"-h", "--help"} & {*words}:
        console.print(__doc__)
        return 0
    scale = [word.removeprefix("scale=") for word in words if word.startswith("scale=")][-1:] or ["embedded"]
    options = [word for word in words if not word.startswith("scale=")]
    refuse(scale[0], options)
    if scale[0] == "full":
        return plan_full(options)
    return run(options if any(word.startswith("seed=") for word in options) else [SEEDS, *options])


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], GOES_ON))
