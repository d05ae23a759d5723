"""What the README says is so: its commands, its table and its option reference."""

import json
import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from dev.bench.__main__ import options
from dev.gpu.__main__ import options as gpu_options
from eval.commands.cli import NoOptions, read_words
from eval.pages.blocks import in_short
from eval.readme import block as generated
from eval.results.metrics import METRIC, METRICS
from launch.config.schema import register, resolve
from launch.forecast.machines import ALL
from launch.named.words import with_profiles
from launch.options import reference
from launch.plan import main as plan
from recipes.methods import METHODS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = dict.fromkeys(
    line.split("#")[0].strip()
    for name in ("README.md", "docs/choosing.md", "docs/commands.md", "docs/data.md", "docs/rlhf.md")
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / name).read_text(), re.S)
    for line in block.splitlines()
)


def recipe_of(command: str) -> list[str]:
    """What `make` would run, environment aside."""
    printed = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "--assume-old=.venv/installed", *split(command)[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lines = [line for line in printed.replace("\\\n", "").splitlines() if ".venv/bin/python -m" in line]
    given = dict(word.split("=", 1) for word in split(command)[1:] if "=" in word)  # what the shell would put in
    typed = [re.sub(r"\$(MODEL|DATASET)", lambda found: given[found[1]], line) for line in lines]
    return [line[line.index(".venv/bin/python -m") :] for line in typed]


def split(command: str) -> list[str]:
    return [word.replace('"', "") for word in re.findall(r'(?:[^\s"]|"[^"]*")+', command)]


@pytest.mark.parametrize("command", [command for command in COMMANDS if command])
def test_every_command_exists_and_composes(
    command: str, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make test` is what runs this; the launcher's commands compose; `make compare` itself is run by CI below."""
    lines = recipe_of(command)
    assert lines, f"{command} runs nothing"
    words = split(lines[-1])
    if words[2] in ("dev.bench", "dev.gpu"):
        assert (options if words[2] == "dev.bench" else gpu_options)(words[3:])
        return
    if words[2] not in ("launch", "launch.doctor", "launch.show", "launch.plan"):
        assert words[2] in ("pytest", "launch.profile", "dev.parity") or words[2].split(".")[0] in ("eval", "paper")
        return
    register()
    monkeypatch.chdir(tmp_path)
    for name in ("pairs.jsonl", "ratings.jsonl"):
        shutil.copy(pairs_file, name)
    if ALL in words:  # no profile: a table of them
        assert plan(words[3:]) == 0
        return
    overrides = [word.split(",")[0] for word in words[3:] if "=" in word and not word.startswith("row=")]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        assert resolve(compose("config", with_profiles(overrides))).pipelines


SUITE_COMMANDS = [
    (module, words)
    for name in ("docs/commands.md", "docs/rlhf.md", "docs/evaluation.md", "docs/judges.md")
    for pattern in (r"python -m eval\.(\w+)([^`#\n]*)", r"make eval[^`\n]*SUITE=(\w+)[^`\n\"]*ARGS=\"([^\"]*)\"")
    for module, words in re.findall(pattern, (ROOT / name).read_text())
]


@pytest.mark.parametrize(("suite", "words"), SUITE_COMMANDS)
def test_every_suite_takes_the_options_that_the_documents_give_it(suite: str, words: str) -> None:
    """A suite that must be told more says so only where a document shows its options."""
    module = import_module(f"paper.{suite}" if (ROOT / "paper" / f"{suite}.py").exists() else f"eval.{suite}")
    options = [word for word in words.replace("judge=…", "judge=x").split() if "=" in word]
    assert read_words(options, getattr(module, "Options", NoOptions))[0] == []


def test_the_table_is_the_generated_one() -> None:
    """The README's block follows from docs/comparison.json, and its figures are those of docs/comparison.md."""
    block = re.search(r"<!-- table: begin .*?-->\n\n(.*)\n\n<!-- table: end -->", README, re.S)
    table = json.loads((ROOT / "docs" / "comparison.json").read_text())
    assert block and block.group(1) == generated("readme", table), "run `make docs RUNS=…`"
    assert all({*row["values"]} <= METRIC.keys() for row in table["rows"]), "a key that was published stays"
    whole = (ROOT / "docs" / "comparison.md").read_text()
    figures = [re.findall(r"-?\d[\d.,e+]*%?", line) for line in block.group(1).splitlines() if line.startswith("|")]
    assert sum(map(len, figures)) > 50 and {figure for line in figures for figure in line} <= set(
        re.findall(r"-?\d[\d.,e+]*%?", whole)
    )


def test_the_table_of_all_methods_is_the_generated_one() -> None:
    page = (ROOT / "docs" / "methods.md").read_text()
    block = re.search(r"<!-- table: begin .*?-->\n\n(.*)\n\n<!-- table: end -->", page, re.S)
    table = json.loads((ROOT / "docs" / "all-methods.json").read_text())
    assert block and block.group(1) == generated("methods", table), "run `make docs RUNS=… ARGS=page=methods`"
    assert len([row for row in table["rows"] if row["stages"]]) == 9
    # The README's sentences on it.
    (sft_first, *others) = table["effects"][0]["lines"][1:]
    assert (sft_first[0], sft_first[-1]) == ("SFT first", "sure") and all(line[-1] != "sure" for line in others)
    dpo = next(row for row in table["rows"] if row["pipeline"] == "dpo")["against"]["win_rate"]["orpo"]
    assert round(100 * dpo["rate"]["mean"]) == 61 and dpo["verdict"] == "not distinguishable"


@pytest.mark.parametrize("data", ["verifiable", "harmless"])
def test_the_tables_of_a_real_model_are_the_generated_ones(data: str) -> None:
    pattern = rf"<!-- {data}: begin .*?-->\n\n(.*)\n\n<!-- {data}: end -->"
    page, readme = (re.search(pattern, (ROOT / path).read_text(), re.S) for path in ("docs/real.md", "README.md"))
    table = json.loads((ROOT / "docs" / f"real-{data}.json").read_text())
    assert page and page.group(1) == generated(data, table), f"run `make docs RUNS=… ARGS=page={data}`"
    assert readme and readme.group(1) == in_short(table)


def test_the_readmes_sentence_on_the_real_models_effects_is_so() -> None:
    table = json.loads((ROOT / "docs" / "real-verifiable.json").read_text())
    said = {line[0]: line[-1] for line in table["effects"][0]["lines"][1:]}
    assert said["SFT first"] == "not distinguishable" and said["ORPO's loss instead of DPO's"] == "sure"


def test_every_row_of_the_table_is_explained() -> None:
    lines = (ROOT / "docs" / "reading.md").read_text().splitlines()
    explained = {name for line in lines if line.startswith("| ") for name in line.split(" | ")[0][2:].split(" · ")}
    assert {metric.label for metric in METRICS} <= explained


def test_the_option_reference_is_the_generated_one() -> None:
    assert (ROOT / "docs" / "options.md").read_text() == reference(), "run `make docs`"


def test_help_names_every_target() -> None:
    printed = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    targets = ["help", "doctor", "show", "plan", "compare", "orpo", "dpo", "sft", "sweep", "eval", "judge", "table"]
    targets += ["bench", "test", "check", "lock", "clean"]
    for target in targets:
        assert f"make {target} " in printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_it_names_are_there(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"`((?:conf|recipes|launch|eval|doctor|pocket|paper|dev|docs|tests)/[\w./-]+)`", text)
    linked = re.findall(r"\]\((?!https?:)([^)#\s]+)", text)
    lost = [path for path in named if not (ROOT / path).exists()]
    assert lost + [path for path in linked if not (page.parent / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_sections_it_links_to_are_there(page: Path) -> None:
    """A link's anchor is a heading's text as GitHub writes it: lower case, hyphens for blanks, no punctuation."""
    lost = []
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)", page.read_text()):
        target = page.parent / path if path else page
        headings = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
        if anchor not in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}:
            lost.append(f"{path}#{anchor}")
    assert lost == []


def test_the_lesson_is_in_the_diff() -> None:
    """`diff recipes/dpo.py recipes/orpo.py` shows sums and a reference model against means and a likelihood."""
    answer = subprocess.run(
        ["diff", "recipes/dpo.py", "recipes/orpo.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    theirs, ours = ("\n".join(row for row in answer.stdout.splitlines() if row[:1] == side) for side in "<>")
    assert "policy.chosen - reference.chosen" in theirs and "policy.mean_chosen" not in theirs
    assert "policy.mean_chosen" in ours and "nll=policy.nll" in ours and "reference.chosen" not in ours


@pytest.mark.parametrize("method", ["sft", "dpo", "orpo", "cpo", "simpo", "kto"])
def test_a_recipe_opens_with_its_loss_and_ends_like_the_others(method: str) -> None:
    """`diff recipes/dpo.py recipes/orpo.py` shows the methods: of what follows the trainers only names differ."""
    text = (ROOT / "recipes" / f"{method}.py").read_text()
    assert re.findall(r"^(?:def|class) (\w+)", text, re.M)[0] == f"{method}_loss"
    ends = [(ROOT / "recipes" / f"{name}.py").read_text().split("\nTRAINERS = ")[1] for name in (method, "orpo")]
    label = METHODS[method].label
    assert ends[0].replace(label, "ORPO").replace(method, "orpo") == ends[1]
