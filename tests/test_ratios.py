"""Figure 6 follows from its definition, whose distributions are known exactly."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from scipy.stats import kstest, laplace, logistic

from eval.commands.cli import NoOptions
from paper.ratios import SAMPLES, TEMPERATURES, main, sample, summary
from recipes.config import UserError
from recipes.engine.loss import log_odds


def test_probability_ratios_are_laplace() -> None:
    ratios = sample()
    for beta in TEMPERATURES:
        assert kstest(ratios[f"log PR, β = {beta}"], laplace(scale=beta).cdf).pvalue > 0.001


def test_the_odds_ratio_is_the_difference_of_two_logistics_and_the_losss() -> None:
    """The density of that difference at 0 is the integral of the logistic's square, 1/6; the loss takes this ratio."""
    first, second = np.random.default_rng(0).random((2, SAMPLES))
    ratio = log_odds(torch.from_numpy(np.log(first))) - log_odds(torch.from_numpy(np.log(second)))
    found = sample()["log OR"]
    np.testing.assert_allclose(found, ratio.numpy(), rtol=1e-6, atol=1e-6)
    near = np.mean(np.abs(found) < 0.25) / 0.5
    assert near == pytest.approx(1 / 6, abs=4 * np.sqrt(0.083 * 0.917 / SAMPLES) / 0.5 + 0.001)
    third, fourth = (logistic.rvs(size=SAMPLES, random_state=seed) for seed in (1, 2))
    assert kstest(found, third - fourth).pvalue > 0.001


def test_the_figure_is_written_with_its_numbers(tmp_path: Path) -> None:
    main([str(tmp_path)], NoOptions())
    first = (tmp_path / "figure-6.svg").read_bytes()
    text = "".join(ElementTree.fromstring(first).itertext())
    for name, numbers in summary(sample()).items():
        assert name in text and numbers["deviation"] == pytest.approx(numbers["exact_deviation"], rel=0.02)
        assert numbers["low"] == pytest.approx(-numbers["high"], rel=0.05)
    main([str(tmp_path)], NoOptions())
    assert (tmp_path / "figure-6.svg").read_bytes() == first


def test_a_directory_that_is_not_there_is_an_error_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nonsense is no directory"):
        main([str(tmp_path / "nonsense")], NoOptions())
    assert not any(tmp_path.iterdir())
