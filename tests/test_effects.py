"""The stage or the loss: what a design of pipelines says, and how sure it is, where the truth is known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from comparison import SEEDS, make_session, stage

from eval.results.effects import effects, of_points, stage_or_loss, told
from eval.results.rows import build_rows
from eval.results.session import jobs_of
from launch.config.schema import Config
from launch.named.pipelines import spelled
from launch.named.words import with_profiles
from recipes.config import UserError, read_json, write_json

Compose = Callable[..., Config]
CELLS = [("dpo", True), ("dpo", False), ("orpo", True), ("orpo", False)]


def world(random: np.random.Generator, rates: list[float], seeds: int, prompts: int, spread: float) -> list[np.ndarray]:
    """Wins against SFT of four pipelines: a prompt is easier or harder for all, a seed better or worse for one."""
    prompt = random.normal(0, 0.15, prompts)
    chances = [rate + prompt + random.normal(0, spread, (seeds, 1)) for rate in rates]
    return [(random.random((seeds, prompts)) < np.clip(chance, 0, 1)).astype(float) for chance in chances]


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (3, 0.03)])
def test_intervals_hold_the_true_effects_and_no_effect_is_rarely_sure(seeds: int, spread: float) -> None:
    """SFT first adds 4 points to DPO and 8 to ORPO; ORPO's loss is as good as DPO's on the whole."""
    random = np.random.default_rng(0)
    rates = [0.52, 0.48, 0.54, 0.46]
    truth = np.array([0.06, 0.0, -0.04])
    worlds, held, wrong = 400, np.zeros(3), 0
    for _ in range(worlds):
        points = dict(zip(CELLS, world(random, rates, seeds, 200, spread), strict=True))
        found = of_points(points, ["dpo", "orpo"], None)
        means = [effect.difference.mean for effect in found]
        held += [mean.low <= true <= mean.high for mean, true in zip(means, truth, strict=True)]
        wrong += found[1].difference.sure
    # The standard error of a share of 400 is 1.1 points at 95%.
    assert ((held / worlds > 0.92) & (held / worlds <= 0.995)).all(), held / worlds
    assert wrong / worlds < 0.05 + 3 * 0.011


def test_effects_are_the_contrasts_of_four_pipelines(tmp_path: Path) -> None:
    """Of responses whose gold rewards are known: SFT first adds to ORPO, and takes from DPO."""
    session = make_session(tmp_path)
    rewards = {"sft": 0, "dpo": 1, "orpo": -1, "dpo_alone": 1, "sft_orpo": 1}
    for seed in SEEDS:
        home, path = tmp_path / f"seed-{seed}", session / str(seed) / "job.json"
        job = read_json(path)
        for name, last in (("dpo_alone", "dpo"), ("sft_orpo", "orpo")):
            made = stage(home / name, last, seed)
            job["pipelines"][name] = [*(job["pipelines"]["sft"] if name == "sft_orpo" else []), made]
        write_json(path, job | {"wanted": list(rewards)})
        for name, reward in rewards.items():
            (file,) = (home / name / "eval").glob("*.json")
            result = read_json(file)
            for response in (*result["sampled"], *(one for more in result["further"] for one in more)):
                response["gold"] = reward
            write_json(file, result)
    rows = build_rows(jobs_of(session))
    stage_first, loss, interaction = effects([row for row in rows if row.stages])
    # Points against SFT: DPO 1 and 1, ORPO 1 after SFT and 0 without it.
    assert [effect.difference.mean.mean for effect in (stage_first, loss, interaction)] == [0.5, -0.5, -1.0]
    assert stage_first.sentence.startswith("SFT first gains, whatever the loss (+50.0 [")
    assert loss.sentence.startswith("ORPO's loss instead of DPO's costs, with SFT first or without (-50.0 [")
    assert interaction.sentence.startswith("SFT first adds more to ORPO than to DPO (-100.0 [")
    ((title, lines),) = stage_or_loss(rows)
    assert title == "The stage or the loss" and [len(line) for line in lines] == [5] * 4
    assert told(rows)[1].startswith("DPO without SFT is kept near the base model")
    assert effects([row for row in rows if row.pipeline in ("sft", "dpo", "orpo", "sft_orpo")]) == []


def test_pipelines_are_spelled_by_their_stages(compose: Compose) -> None:
    design = compose("pipeline=design").pipelines
    assert design == {
        "sft": ["sft"],
        "dpo": ["sft", "dpo"],
        "orpo": ["orpo"],
        "dpo_alone": ["dpo"],
        "sft_orpo": ["sft", "orpo"],
    }
    config = compose(*with_profiles(["pipeline=sft+orpo,orpo,sft+dpo,dpo"]))
    assert config.pipelines == {name: stages for name, stages in design.items() if name != "sft"} and config.evaluate
    assert not compose(*with_profiles(["pipeline=sft+orpo", "evaluate=false"])).evaluate
    assert spelled("pipeline=orpo,dpo") == ["pipeline=orpo,dpo"], "a sweep over two profiles"


@pytest.mark.parametrize(
    ("word", "said"),
    [("pipeline=sft+oropo", "'oropo' is not a stage"), ("pipeline=sft+dpo,sft+dpo", "name each pipeline once")],
)
def test_what_spells_no_pipeline_is_refused(word: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        spelled(word)
