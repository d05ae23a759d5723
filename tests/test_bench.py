"""`make bench` at its smallest: figures are there, both engines have the same loss; what cannot be done is refused."""

import json
import re
import signal
import sys
from pathlib import Path

import pytest
from door import run

from dev.bench import peer, workload
from dev.bench.__main__ import main, options
from dev.bench.measure import Case, measure
from dev.bench.predict import predict
from dev.bench.report import ratio
from dev.bench.shapes import MADE
from dev.bench.suite import alone, refuse_pairs
from dev.bench.workload import made_pairs
from recipes.config import UserError
from recipes.engine.packing import Pair


def test_the_smallest_benchmark(tmp_path: Path) -> None:
    words = [
        "--models",
        "tiny",
        "--batch-sizes",
        "2",
        "3",
        "--repeats",
        "1",
        "--max-length",
        "96",
        "--even",
        "48",
        "96",
    ]
    words += ["--parts", "engines", "agreement", "--tunings", "full", "--output", str(tmp_path)]
    said = run([sys.executable, "-m", "dev.bench", *words])
    results = json.loads((tmp_path / "bench.json").read_text())
    assert results["matmul_flops_per_second"] > 0 and results["machine"]["versions"]["trl"]
    assert len(results["engines"]) == 2 * 2 + 2  # length distributions, batch sizes; even lengths
    for case in results["engines"]:
        ours, stock = (case["repetitions"][engine][0] for engine in ("packed", "stock"))
        for found in (ours, stock):
            assert found["pairs_per_second"] > 0 and found["peak_bytes"] > 0 and found["predicted_bytes"] > 0
        assert ours["useful_tokens_per_second"] == ours["computed_tokens_per_second"]
        useful = stock["useful_tokens_per_second"] / stock["computed_tokens_per_second"]
        assert useful < 1 and (case["lengths"] in MADE or useful == pytest.approx(7 / 8))  # the prompt is a quarter
    assert {found["lengths"] for found in results["agreement"]} == set(MADE)
    assert all(found["loss"] < 1e-5 and found["gradient"] < 1e-4 for found in results["agreement"])
    page = (tmp_path / "bench.md").read_text()
    assert all((tmp_path / name).stat().st_size for name in re.findall(r"\((bench[\w-]*\.\w+)\)", page))
    assert "no GPU: skipped" in said and page.count("| **ratio** |") == 6


@pytest.mark.parametrize("engine", ["packed", "stock"])
def test_a_reward_model_is_measured_as_the_other_methods_are(engine: str) -> None:
    found = measure(Case("tiny", "hh-rlhf", "full", 2, engine, method="reward"), [Pair([3, 4], [5], [6, 7])] * 2)
    assert found["pairs_per_second"] > 0
    assert found["computed_tokens_per_second"] / found["useful_tokens_per_second"] == pytest.approx(
        1 if engine == "packed" else 8 / 5
    )


@pytest.mark.parametrize("engine", ["packed", "stock"])
@pytest.mark.parametrize("method", ["sft", "dpo", "orpo"])
def test_a_forecast_peak_is_the_measured_one(method: str, engine: str) -> None:
    """Within a quarter; libraries' own buffers differ between CPUs."""
    case, pairs = Case("21m", "hh-rlhf", "full", 2, engine, method=method), made_pairs(MADE["hh-rlhf"], 2, 512, 32064)
    assert predict(case, pairs) == pytest.approx(alone(measure, case, pairs)["peak_bytes"], rel=0.25)


def test_made_lengths_have_the_medians_they_say() -> None:
    pairs = made_pairs(MADE["hh-rlhf"], 2000, 10_000, 100)
    for name, median in zip(("prompt", "chosen", "rejected"), MADE["hh-rlhf"].medians, strict=True):
        lengths = sorted(len(getattr(pair, name)) for pair in pairs)
        assert abs(lengths[1000] / median - 1) < 0.1


REFUSED = {
    "--models nope": "choose from 21m, tiny",
    "--repeats 0": "--repeats must be at least 1 (got 0)",
    "--batch-sizes 4 0": "--batch-sizes must be at least 1 (got 0)",
    "--max-length 1": "--max-length must be at least 2 (got 1)",
    "--even 64 1": "--even must be at least 4 (got 1)",
    "--pairs pairs.jsonl": "go together",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_measured_is_one_line(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("error: ") and REFUSED[words] in line


def test_pairs_that_cannot_be_had_are_said_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, pairs_file: Path
) -> None:
    monkeypatch.setattr(workload, "MOST_MISSES", 1000)
    words = {
        "--even 2048": "--even must be at most 1024",
        "--max-length 8": "raise --max-length",
        f"--pairs {pairs_file} --tokenizer /nowhere": "--tokenizer /nowhere cannot be loaded",
    }
    for given, said in words.items():
        with pytest.raises(UserError, match=said) as found:
            refuse_pairs(options(given.split()), gpu=False)
        assert "\n" not in str(found.value)
    refuse_pairs(options(["--even", "1024"]), gpu=False)


def test_a_killed_measurement_is_said() -> None:
    with pytest.raises(UserError, match="was killed"):
        alone(signal.raise_signal, signal.SIGKILL)


def test_the_ratio_is_of_medians_with_the_range_of_the_repetitions() -> None:
    """Medians 4 and 2; single ratios 1, 3 and 1, whose median would be 1."""
    sides = {"packed": [1, 6, 4, 9], "stock": [1, 2, 4, None]}
    repetitions = {name: [{"speed": rate} if rate else {} for rate in rates] for name, rates in sides.items()}
    assert ratio({"repetitions": repetitions}, "speed") == "2.00x (1.00-3.00)"


def test_the_peer_gets_ids_alone_and_whole_batches(capsys: pytest.CaptureFixture[str]) -> None:
    assert peer.as_lists([Pair([1], [2, 3], [4], reference=(-1.0, -2.0))]) == [[[1], [2, 3], [4]]]
    assert peer.main(["--count", "9", "--batch-size", "8"]) == 2 and "a multiple of" in capsys.readouterr().out
