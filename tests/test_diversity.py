"""Diversity is the plain mean over pairs: 1 for identical answers, 0 for orthogonal ones, whatever the batch."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from eval import diversity
from eval.answers.embed import embed
from eval.answers.store import Answer
from eval.commands.cli import read_words
from eval.diversity import mean_cosines
from recipes.config import UserError


def test_identical_is_one_and_orthogonal_is_zero() -> None:
    assert mean_cosines(np.tile([0.3, -2.0, 5.0], (4, 1))) == pytest.approx(np.ones(4))
    assert mean_cosines(np.diag([1.0, 20.0, 0.1])) == pytest.approx(np.zeros(3))


def test_it_is_the_mean_over_all_pairs() -> None:
    vectors = np.random.default_rng(0).normal(size=(6, 3))
    pairs = [
        one @ other / np.linalg.norm(one) / np.linalg.norm(other) for one, other in itertools.combinations(vectors, 2)
    ]
    assert mean_cosines(vectors).mean() == pytest.approx(np.mean(pairs))


def test_per_input_and_across_inputs_compare_what_they_say(tiny_model: Path) -> None:
    """Alike within a prompt and not across prompts; then the other way round."""
    alike = [[Answer(text, 1, True)] * 3 for text in ("by the river", "old", "No idea.")]
    found = diversity.diversity(alike, str(tiny_model), None)
    assert found["within"] == pytest.approx([1, 1, 1]) and np.mean(found["across"]) < 0.9
    mixed = [[row[0] for row in alike]] * 3
    turned = diversity.diversity(mixed, str(tiny_model), None)
    assert turned["across"] == pytest.approx([1, 1, 1])
    assert turned["within"] == pytest.approx([np.mean(found["across"])] * 3)


def test_an_embedding_depends_on_no_other_text(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["No idea. Ask somebody else.", "", "It is old and quiet.", "by the river"]
    monkeypatch.setattr("eval.answers.embed.TOKENS", 30)
    alone = np.concatenate([embed([text], str(tiny_model), None) for text in texts])
    assert embed(texts, str(tiny_model), None) == pytest.approx(alone, abs=1e-5)
    assert np.linalg.norm(alone, axis=1).min() > 0


def test_the_suite_says_length_and_stops_beside(
    untuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"prompt": "Where is Ashford?"}\n{"prompt": "And Dalewick?"}\n')
    words = [str(untuned), f"questions={questions}", "samples=2", "max_new_tokens=4"]
    diversity.main(*read_words(words, diversity.Options))
    printed = capsys.readouterr().out
    for row in (
        "per input",
        "across inputs",
        "mean length, tokens",
        "ended with a stop token",
        "truncated at max_new_tokens",
    ):
        assert row in printed
    with pytest.raises(UserError, match="samples and prompts must be at least 2"):
        diversity.main([], diversity.Options(samples=1))


def test_the_interval_over_pairs_of_prompts_covers_their_mean() -> None:
    """95 % of intervals hold the mean cosine of the population that prompts are drawn from; three seeds that agree."""
    many = np.random.default_rng(1).normal(1, 1.5, size=(200_000, 2))
    true = np.square((many / np.linalg.norm(many, axis=1, keepdims=True)).mean(0)).sum()  # of two independent prompts
    drawn, held = np.random.default_rng(0), []
    for _ in range(300):
        vectors = drawn.normal(1, 1.5, size=(60, 2))
        found = diversity.over_pairs(np.tile(mean_cosines(vectors), (3, 1)))
        held.append(found.low <= true <= found.high)
    assert 0.90 < np.mean(held) < 0.99
