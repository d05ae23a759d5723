"""What make hands on: every word as it was typed, and nothing that the shell happens to have."""

import os
import subprocess
from pathlib import Path

import pytest

from dev.bench.__main__ import options
from eval.commands.cli import NoOptions, read_words

ROOT = Path(__file__).parent.parent
ODD = "a=b, [1] #2 (it's)  c"  # a name that neither make, the shell nor Hydra may read as anything else
TYPED = ["MODEL", "DATASET", "ARGS", "RUNS", "RUN", "TO", "PAIRS", "TOKENIZER", "WHEELS"]


def handed(*words: str, **environment: str) -> list[str]:
    """What a target hands to Python, whose place `printf` takes: nothing runs, and no environment is installed."""
    instead = "include Makefile\nPYTHON = printf '%s\\n'\n"
    installed = ["-o", ".venv/installed", "-o", ".venv/gguf/installed"]
    command = ["make", "--no-print-directory", *installed, "-f", "-", *words]
    asked = {"input": instead, "env": os.environ | environment, "cwd": ROOT}
    return subprocess.run(command, **asked, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["profile", "MODEL=", "DATASET="], ["launch.profile", "model=", "dataset="]),
        (["chat", "RUN="], ["eval.chat", ""]),
        (["reproduce", "RUN="], ["launch.reproduce", ""]),
        (["export", "RUN=", "TO="], ["eval.export", "", "format=hf", "to="]),
        (["push", "RUN=", "TO=", "DRY_RUN=1"], ["eval.push", "", "to=", "dry_run=1"]),
        (["bench", "PAIRS=", "TOKENIZER="], ["dev.bench", "--pairs", "", "--tokenizer", ""]),
        (["gpu", "PAIRS=", "TOKENIZER="], ["dev.gpu", "--pairs", "", "--tokenizer", ""]),
    ],
    ids=lambda words: words[0],
)
def test_a_path_is_one_word_whatever_it_holds(tmp_path: Path, words: list[str], expected: list[str]) -> None:
    path = str(tmp_path / ODD)
    given = [word + path if word.endswith("=") else word for word in words]
    paths = [word + path if word in ("", "model=", "dataset=", "to=") else word for word in expected]
    assert handed(*given, "ARGS=a=1 b=2") == ["-m", *paths, "a=1", "b=2"]
    assert handed(words[0]) == ["-m", expected[0], *(["format=hf"] if words[0] == "export" else [])]


def test_sessions_are_one_path_or_several_words(tmp_path: Path) -> None:
    (tmp_path / ODD).mkdir()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    both = [str(tmp_path / name) for name in ("one", "two")]
    for target, module in {"table": "eval.table", "judge": "eval.people", "eval": "eval"}.items():
        assert handed(target, f"RUNS={tmp_path / ODD}") == ["-m", module, str(tmp_path / ODD)]
        assert handed(target, f"RUNS={' '.join(both)}") == ["-m", module, *both]
        assert handed(target, f"RUNS={tmp_path}/[ot][nw][eo]") == ["-m", module, *both]
        assert handed(target) == ["-m", module]
    for target in ("table", "keep"):
        *_, last = handed(target, f"RUNS={both[0]}", "ARGS=to=a.tar.gz")
        assert last == "to=a.tar.gz", "what follows in ARGS is handed on, where it is checked"


def test_what_the_shell_happens_to_have_changes_no_command() -> None:
    stray = dict.fromkeys(TYPED, "stray") | {"SUITE": "stray", "PUBLIC": "1"}
    for target in ("profile", "compare", "chat", "export", "push", "bench", "gpu", "eval", "reproduce"):
        assert handed(target, **stray) == handed(target)
        assert handed("-e", target, **stray) == handed(target)
    assert handed("chat", "RUN=typed", **stray) == ["-m", "eval.chat", "typed"]


def test_a_home_directory_is_found_where_the_shell_left_it_to_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_words(["~/runs/orpo-1", "a~b"], NoOptions)[0] == [f"{tmp_path}/runs/orpo-1", "a~b"]
    given = options(["--pairs", "~/pairs.jsonl", "--tokenizer", "org/name"])
    assert (given.pairs, given.tokenizer) == (f"{tmp_path}/pairs.jsonl", "org/name")


@pytest.mark.parametrize("word", ["judge=none", "DATSET=pairs.jsonl"])
def test_make_refuses_what_it_would_not_hand_on(word: str) -> None:
    found = subprocess.run(["make", "-n", "compare", word], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 2 and f'options go into ARGS: ARGS="{word}"' in found.stderr


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("ARGS=orpo.beta=0.1;0.2", "ARGS has a ; that the shell would read"),
        ("ARGS=orpo.beta=range(0.1,0.3,0.1)", "ARGS has a ( that the shell would read"),
        ("ARGS=--check > log.txt", "ARGS has a > that the shell would read"),
        ("RUNS=/elsewhere", "make compare reads no RUNS, which is for make eval judge table keep docs"),
        ("RUN=runs/x", "make compare reads no RUN, which is for make pairs reproduce export chat push"),
        ("MINUTES=3", "make compare reads no MINUTES, which is for make gpu"),
    ],
)
def test_make_refuses_what_the_shell_or_nobody_would_read(word: str, said: str) -> None:
    found = subprocess.run(["make", "-n", "compare", word], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 2 and said in found.stderr


def test_a_word_in_quotes_is_one_word() -> None:
    assert handed("compare", "ARGS='orpo.beta=range(0.1,0.3,0.1)'")[-1] == "orpo.beta=range(0.1,0.3,0.1)"
