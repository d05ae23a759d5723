"""A claim's verdict follows from numbers made here, so that each is known: supported, contradicted, or not shown."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.results.metric import Cost
from eval.results.metrics import FLOPS, MEMORY, SECONDS
from eval.results.row import Record, Row
from eval.results.setting import Setting
from paper.across import lambdas, probability_ratio, sizes
from paper.claims import by_setting
from paper.evidence import (
    CONTRADICTED,
    NOT_SHOWN,
    NOT_TESTABLE,
    PASSES_PER_EPOCH,
    SUPPORTED,
    Rows,
    saving,
    shift,
    trend,
    varied,
)
from recipes.config import FORMAT, write_config

PAIRS = np.random.default_rng(0).normal(-1.0, 0.1, 100)


def row(pipeline: str, rejected: float, seeds: int = 3, seconds: float = 1.0, **setting: Any) -> Row:
    """A pipeline whose chosen answers are as likely as the base model's, and whose rejected ones are shifted."""
    noise = 0.01 * np.random.default_rng(sum(map(ord, pipeline))).normal(size=(seeds, 100))
    results = [
        {
            "chosen": list(PAIRS + noise[seed]),
            "rejected": list(PAIRS - 0.2 + rejected + noise[seed]),
            "sampled": [{"gold": float(gold)} for gold in noise[seed]],
            "further": [[] for _ in noise[seed]],
            "clusters": {"prompts": [*range(len(noise[seed]))], "pairs": [*range(len(noise[seed]))]},
        }
        for seed in range(seeds)
    ]
    records: list[list[Record]] = [
        [{"stage": pipeline, "engine": "TRL", "device_seconds": seconds * (1 + 0.01 * seed)}] for seed in range(seeds)
    ]
    return Row(pipeline, Setting(setting), list(range(seeds)), [], results, records)


def rows(sft: float = 0.1, orpo: float = -0.1) -> Rows:
    return {"base": row("base", 0), "sft": row("sft", sft), "orpo": row("orpo", orpo)}


@pytest.mark.parametrize("moved, verdict", [(0.1, SUPPORTED), (-0.1, CONTRADICTED), (0.0, NOT_SHOWN)])
def test_rejected_answers_after_sft(moved: float, verdict: str) -> None:
    found = shift("rejected", "sft", "base", 1)(rows(sft=moved))
    assert found is not None and found.verdict == verdict
    other = shift("rejected", "base", "sft", -1)(rows(sft=moved))
    assert other is not None and other.verdict == verdict, "the same claim from the other side"


def test_what_a_session_lacks_is_not_judged() -> None:
    assert shift("rejected", "orpo", "dpo", -1)(rows()) is None
    alone = {"orpo": row("orpo", 0, seeds=1), "sft": row("sft", 0, seeds=1)}
    alone["sft"].seeds = [7]
    assert shift("rejected", "orpo", "sft", -1)(alone) is None, "no common seed"


@pytest.mark.parametrize(
    "theirs, engine, seeds, verdict",
    [
        (2.0, "TRL", 3, SUPPORTED),
        (0.5, "TRL", 3, CONTRADICTED),
        (2.0, "packed", 3, NOT_SHOWN),
        (2.0, "TRL", 1, NOT_SHOWN),
    ],
)
def test_a_saving_needs_several_seeds_and_one_engine(theirs: float, engine: str, seeds: int, verdict: str) -> None:
    found = {"orpo": row("orpo", 0, seeds), "dpo": row("dpo", 0, seeds, seconds=theirs)}
    for (record,) in found["orpo"].records:
        record["engine"] = engine
    found["orpo"].records[0][0]["device_seconds"] *= 1.001  # so that the seeds' ratios are not all one number
    measured = saving(SECONDS, "dpo")(found)
    assert measured is not None and measured.verdict == verdict


@pytest.mark.parametrize(
    "cost, device, counted, verdict",
    [
        (MEMORY, "x86_64 CPU, 2 threads", False, NOT_TESTABLE),
        (MEMORY, "NVIDIA H100 80GB HBM3", False, SUPPORTED),
        (FLOPS, "NVIDIA H100 80GB HBM3", False, NOT_TESTABLE),
        (PASSES_PER_EPOCH, "NVIDIA H100 80GB HBM3", True, NOT_TESTABLE),
        (SECONDS, "x86_64 CPU, 2 threads", False, SUPPORTED),
    ],
)
def test_what_follows_from_the_configuration_or_needs_a_gpu_is_not_testable(
    cost: Cost, device: str, counted: bool, verdict: str
) -> None:
    """ORPO costs half of everything, and a little more with each seed."""
    found = {"orpo": row("orpo", 0), "dpo": row("dpo", 0)}
    for name, rest in found.items():
        for seed, (record,) in enumerate(rest.records):
            costs = dict.fromkeys(("device_seconds", "peak_memory_bytes", "flops", "forward_passes_per_pair"), 2.0)
            record |= costs | {"device": device, "epochs": 1.0}
            for key in costs:
                record[key] *= (0.5 + seed / 100) if name == "orpo" else 1
    measured = saving(cost, "dpo", counted)(found)
    assert measured is not None and measured.verdict == verdict


def test_a_trend_is_the_last_tenth_less_the_first(tmp_path: Path) -> None:
    found = {"orpo": row("orpo", 0)}
    for seed in range(3):
        stage = tmp_path / str(seed)
        stage.mkdir()
        entries = [{"log_odds_chosen": step * (1 + 0.1 * seed)} for step in range(20)]
        (stage / "log_history.jsonl").write_text(
            "".join(json.dumps(entry) + "\n" for entry in [*entries, {"epoch": 1}])
        )
        found["orpo"].directories.append([stage])
    measured = trend("log_odds_chosen", "orpo", 1)(found)
    assert measured is not None and "+19.800" in measured.measured and measured.verdict == SUPPORTED, "18 x 1.1"


def stage(directory: Path, beta: float, size: int, ratio: str = "odds") -> list[list[Path]]:
    directory.mkdir()
    values = {"stage": "orpo", "start": f"hub/{size}", "pairs": "pairs", "options": {"beta": beta, "ratio": ratio}}
    write_config(directory, {"format": FORMAT, **values, "model": {"name": f"m-{size}", "parameters": size}})
    return [[directory]] * 3


LAMBDAS = ((0.1, 10, "odds"), (0.5, 10, "odds"), (1.0, 10, "odds"))
SIZES = ((0.5, 10, "odds"), (0.5, 100, "odds"), (0.5, 1000, "odds"))
RATIOS = ((0.5, 10, "odds"), (0.5, 10, "probability"))


@pytest.mark.parametrize("measure, ends", [(lambdas, LAMBDAS), (sizes, SIZES), (probability_ratio, RATIOS)])
def test_settings_are_compared_by_one_thing_alone(tmp_path: Path, measure: Any, ends: Any) -> None:
    """Each setting has a wider margin, less likely answers and better ones than the last; a further one differs in all.

    Of the largest model's DPO, one seed is missing.
    """
    settings: list[Rows] = []
    for number, (beta, size, ratio) in enumerate((*ends, (9.0, 9000, "probability"))):
        orpo, dpo = row("orpo", -number, 4), row("dpo", 0, 4)
        orpo.directories = stage(tmp_path / str(number), beta, size, ratio)
        random = np.random.default_rng(number)
        for one, mean in ((orpo, 2.0 * number), (dpo, 0.0)):
            for result in one.results:
                result["sampled"] = [{"gold": gold} for gold in random.normal(mean, 1, 100)]
        for result in orpo.results:
            result["chosen"] = [logp - 0.1 * number for logp in result["chosen"]]
        settings.append({"orpo": orpo, "dpo": dpo})
    last = settings[len(ends) - 1]["dpo"]
    last.seeds, last.results = [0, 2, 3], [last.results[seed] for seed in (0, 2, 3)]
    found = measure(settings[::-1])
    assert found is not None and found.verdict == SUPPORTED and "9" not in found.measured.split(":")[0]
    assert measure(settings[:1]) is None and measure(settings[len(ends) - 1 :]) is None


@pytest.mark.parametrize(
    "within, across, verdict", [(0.1, -0.1, SUPPORTED), (0.1, 0.1, CONTRADICTED), (0.1, 0, NOT_SHOWN)]
)
def test_diversity_is_judged_where_it_was_measured(tmp_path: Path, within: float, across: float, verdict: str) -> None:
    found = {"orpo": row("orpo", 0), "dpo": row("dpo", 0)}
    random = np.random.default_rng(0)
    for name, one in found.items():
        one.directories = [[tmp_path / f"{name}-{seed}"] for seed in one.seeds]
    assert varied(found) is None
    for name, one in found.items():
        for (directory,) in one.directories:
            (directory / "eval").mkdir(parents=True)
            noise = {key: 0.5 + 0.01 * random.normal(size=50) for key in ("within", "across")}
            values = {"within": noise["within"] + within * (name == "orpo")}
            values |= {"across": noise["across"] + across * (name == "orpo")}
            kept = json.dumps({key: value.tolist() for key, value in values.items()})
            (directory / "eval" / "diversity-a.json").write_text(kept)
    measured = varied(found)
    assert measured is not None and measured.verdict == verdict
    (tmp_path / "dpo-1" / "eval" / "diversity-a.json").unlink()
    assert varied(found) is None, "not of every seed"


def test_a_base_model_joins_the_settings_that_share_it() -> None:
    base = row("base", 0, model="m")
    base.records = []
    found = by_setting([base, row("sft", 0, model="m", x=1), row("sft", 0, x=2)])
    assert [(str(setting), set(group)) for setting, group in found] == [
        ("model=m x=1", {"base", "sft"}),
        ("x=2", {"sft"}),
    ]
