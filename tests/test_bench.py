"""`make bench` at its smallest: the figures are there, and both engines have the same loss."""

import json
import re
import sys
from pathlib import Path

import pytest

from bench.workload import MADE, made_pairs
from tests.door import run


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
    said = run([sys.executable, "-m", "bench", *words])
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


def test_made_lengths_have_the_medians_they_say() -> None:
    pairs = made_pairs(MADE["hh-rlhf"], 2000, 10_000, 100)
    for name, median in zip(("prompt", "chosen", "rejected"), MADE["hh-rlhf"].medians, strict=True):
        lengths = sorted(len(getattr(pair, name)) for pair in pairs)
        assert abs(lengths[1000] / median - 1) < 0.1
