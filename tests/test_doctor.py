"""The doctor names every bad row; training drops exactly those, or refuses them; stock TRL turns into NaN."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset as Rows
from datasets import load_from_disk
from door import PATIENCE, launch, look, short, stages
from scipy.stats import binomtest
from transformers import AutoModelForCausalLM, AutoTokenizer

from doctor.lengths import bias, epoch, exact_interval, padding, spread
from launch.doctor import doctor
from recipes.orpo import ORPOConfig, trl_orpo

Words = Callable[..., list[str]]
EVIL = "<script>alert(1)</script><img src='http://127.0.0.1:9/x.png'>"
# Number from 1, as a user counts -> finding
BAD = {11: "overlong", 22: "empty", 33: "identical", 44: "duplicate", 5: "conflict", 55: "conflict", 66: "leak"}


def row(prompt: str, chosen: str, rejected: str) -> dict[str, str]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def rows() -> list[dict[str, str]]:
    """200 rows of which seven are bad; BAD says which."""
    made = [row(f"Question {number}?", f"Answer {number}.", f"Nothing {number}!") for number in range(1, 201)]
    made[10]["prompt"] = "zq " * 500  # over 1,024 tokens, the limit of the profile and of TRL alike
    made[21]["chosen"] = ""
    made[32]["rejected"] = made[32]["chosen"]
    made[3]["prompt"] = f"Question 4? {EVIL}"
    made[43] = dict(made[3])
    made[54] = row(made[4]["prompt"], made[4]["rejected"], made[4]["chosen"])
    made[65]["prompt"] = "Test question 2?"
    return made


@pytest.fixture(scope="module")
def sick(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options that name the 200 rows and a test file."""
    folder = tmp_path_factory.mktemp("sick")
    tests = [row(f"Test question {number}?", "Yes.", "No.") for number in range(8)]
    for name, made in (("train", rows()), ("test", tests)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in made))
    return [f"dataset.path={folder / 'train.jsonl'}", f"dataset.test_path={folder / 'test.jsonl'}"]


@pytest.fixture(scope="module")
def visit(words: Words, sick: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the doctor printed, and its page."""
    runs = tmp_path_factory.mktemp("visit")
    printed = look("launch.doctor", *words(runs, *sick))
    (page,) = (runs / "_doctor").glob("*.html")
    return printed, page


def test_the_doctor_names_every_bad_row_and_its_fate(visit: tuple[str, Path]) -> None:
    printed, page = visit
    train = printed[printed.index("train: ") : printed.index("test: ")]
    found = re.findall(r"^(\w+) +([\d,]+)  ([\d, …]+?)  +(dropped|trained on|refuses \w+ \w+ \w+)", train, re.M)
    named = {name: (int(count), rows, fate) for name, count, rows, fate in found if fate == "dropped"}
    expected = {name: [str(number) for number, other in sorted(BAD.items()) if other == name] for name in BAD.values()}
    assert named == {name: (len(which), ", ".join(which), "dropped") for name, which in expected.items()}
    assert re.search(r"^near_duplicate +1  44  +0 of 1 trained on", train, re.M)  # dropped as a duplicate
    assert "train: 200 rows, 193 kept, 7 dropped, 0 truncated" in train
    assert "training would begin" in printed and f"page: {page}" in printed
    assert max(map(len, printed[: printed.index("page: ")].splitlines())) <= 100


def test_training_drops_exactly_these_and_says_so(words: Words, sick: list[str], tmp_path: Path) -> None:
    printed = launch(*words(tmp_path, *sick, "pipeline=orpo", *short("orpo", steps=1)))
    (pairs,) = (tmp_path / "_pairs").glob("[!.]*")
    trained: Any = load_from_disk(str(pairs))["train"]
    assert sorted(number + 1 for number in trained["row"]) == sorted(set(range(1, 201)) - set(BAD))
    (line,) = (line for line in printed.splitlines() if "dropped" in line)
    for number in BAD:
        assert re.search(rf"rows [\d, ]*\b{number}\b", line), (number, line)


def test_refuse_exits_with_the_list_and_the_doctor_says_it_would(
    words: Words, sick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = words(tmp_path, *sick, "policy=refuse")
    printed = launch(*options, "pipeline=orpo", status=2)
    (line,) = (line for line in printed.splitlines() if line.startswith("error: "))
    for number, finding in BAD.items():
        assert re.search(rf"row [\d, ]*\b{number}\b[^;]*policies\.{finding}=refuse", line), (number, line)
    assert not stages(tmp_path)
    doctor(options)
    printed = capsys.readouterr().out
    assert "training would refuse this data set" in printed and "7 refused" in printed


def test_stock_trl_turns_every_weight_into_nan(tiny_model: Path, tmp_path: Path) -> None:
    """The same 200 rows through the installed ORPOTrainer under its own options: why rows are examined first."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    options = {"num_train_epochs": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
    trainer = trl_orpo.ORPOTrainer(
        model,
        args=ORPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **options),
        train_dataset=Rows.from_list(rows()),
        processing_class=AutoTokenizer.from_pretrained(tiny_model),
    )
    trainer.train()
    assert not any(torch.isfinite(weight).all() for weight in model.parameters()), (
        "TRL's ORPOTrainer keeps its weights finite with an over-long prompt among the rows: upstream has fixed it. "
        "Say so in docs/data.md and CHANGELOG.md, and remove this test"
    )


@pytest.mark.parametrize(
    "word", ["dataset.path=/no/such.jsonl", "dataset.max_lenght=9", "model.chat_template=nonsense"]
)
def test_bad_input_is_one_line(words: Words, tmp_path: Path, word: str) -> None:
    printed = look("launch.doctor", *words(tmp_path, word), status=2)
    assert len([line for line in printed.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in printed and not list(tmp_path.glob("**/*.html"))


def test_pocket_is_examined_without_being_pretrained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doctor([f"runs={tmp_path}", "hardware=cpu", "dataset.train_rows=100"])
    assert "100 to train on" in capsys.readouterr().out and not (tmp_path / "pocket").exists()


def test_a_mixture_is_told_by_source(
    words: Words, sick: list[str], pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = sick[0].partition("=")[2]
    options = [word for word in words(tmp_path) if not word.startswith("dataset")]
    options += [f"dataset=[{file},{pairs_file}]", "dataset.test_fraction=0.2", "dataset.counts=[100,50]"]
    doctor(options)
    printed = capsys.readouterr().out
    assert re.search(r"^empty +1  train\.jsonl 22 +dropped", printed, re.M)
    assert "trains its judge on 20% of these prompts" in printed
    # The over-long row fits a mixture's 2,048 tokens, and a mixture's test files are left unread: five are dropped.
    assert re.search(r"^train\.jsonl +200 +195 ", printed, re.M) and re.search(r"^pairs\.jsonl +64 +64 ", printed, re.M)
    assert sum(map(int, re.search(r"pairs: (\d+) to train on and (\d+) to evaluate", printed).groups())) == 150  # type: ignore[union-attr]


class Page(HTMLParser):
    """A page's tags, the addresses in it and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name.split(":")[-1] in ("src", "href", "srcset", "action", "data", "poster"):
                self.addresses.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone_and_the_datas_markup_is_text(visit: tuple[str, Path]) -> None:
    text = visit[1].read_text()
    page = Page(text)
    assert not {"script", "iframe", "object", "img"} & {*page.tags}
    assert all(address.startswith(("#", "data:,")) for address in page.addresses), page.addresses
    assert all(url.startswith("#") for url in re.findall(r"url\(([^)]*)\)", text))
    assert EVIL in page.text
    assert page.tags.count("svg") == page.tags.count("figcaption") == 6  # three figures of either split


def test_chromium_opens_the_page_without_a_complaint(visit: tuple[str, Path], tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("there is no Chromium on this machine")

    def complaints(page: Path) -> list[str]:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
        command = [browser, *options, f"--user-data-dir={tmp_path / page.stem}", f"file://{page}"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
        assert "</html>" in answer.stdout
        return [line for line in answer.stderr.splitlines() if "CONSOLE" in line]

    assert complaints(visit[1]) == []
    # The page's own policy forbids every request and every script; a page that tried either logs a violation.
    tried = tmp_path / "tried.html"
    tried.write_text(visit[1].read_text().replace("</main>", f"{EVIL}</main>"))
    assert len(complaints(tried)) >= 2


def test_a_bias_is_what_its_interval_shows() -> None:
    def lengths(longer: int, shorter: int, equal: int) -> np.ndarray:
        return np.array([[5, 9, 3]] * longer + [[5, 3, 9]] * shorter + [[5, 4, 4]] * equal)

    fair = bias(lengths(50, 50, 300))
    assert (fair.longer, fair.unequal) == (50, 100) and fair.low < 0.5 < fair.high and "no bias" in fair.words
    assert "the longer response is preferred" in bias(lengths(80, 20, 5)).words
    assert "the shorter response is preferred" in bias(lengths(20, 80, 5)).words
    assert bias(lengths(1, 0, 0)).low == pytest.approx(0.025)  # Clopper-Pearson of one in one: (alpha/2)^(1/n)
    assert "no responses" in bias(lengths(0, 0, 3)).words
    for won, lost in ((0, 7), (7, 0), (3, 9), (250, 248)):
        assert exact_interval(won, lost) == pytest.approx(tuple(binomtest(won, won + lost).proportion_ci(0.95)))


def test_tokens_and_padding_are_counted_as_they_are_computed() -> None:
    lengths = np.random.default_rng(1).integers(1, 50, (37, 3))
    prompt, chosen, rejected = lengths.sum(axis=0)
    both = 2 * prompt + chosen + rejected
    kto = {"KTO": 2 * both}  # its policy reads mismatched responses too
    assert epoch(lengths) == {"SFT": prompt + chosen, **dict.fromkeys(("DPO", "ORPO", "CPO", "SimPO"), both), **kto}
    longest = (lengths[:, 0] + lengths[:, 1:].max(axis=1)).tolist()
    assert padding(lengths, 1).padded == 2 * sum(longest)
    assert padding(lengths, 37).padded == padding(lengths, 1000).padded == 2 * 37 * max(longest)
    costs = [padding(lengths, pairs) for pairs in (1, 4, 16)]
    assert all(cost.packed == lengths.sum() < cost.needed == epoch(lengths)["ORPO"] <= cost.padded for cost in costs)
    assert spread(np.arange(1, 101)).median in (50, 51) and spread(np.arange(1, 101)).longest == 100
