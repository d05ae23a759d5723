"""`make paper` from its first launch to its page, on a tiny model that stands for all three sizes."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from door import ROOT, run

from paper.__main__ import main
from paper.exhibits import Exhibit, printed
from paper.full_scale import plans
from recipes.system.commands import run_command

Words = Callable[..., list[str]]
# The command with another place and other sizes; all else is as a user types it.
SCRIPT = """
import sys
from pathlib import Path
import paper.__main__ as paper
root = Path(sys.argv[1])
paper.ROOT, paper.SESSIONS = root, root / "_sessions"
paper.SIZES = dict.fromkeys(paper.SIZES, sys.argv[2])
sys.exit(paper.run(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def command(words: Words) -> Callable[..., list[str]]:
    """The command on a tiny model, one seed and a few pairs."""

    def make(root: Path, *more: str) -> list[str]:
        options = [word for word in words(root) if not word.startswith(("runs=", "model="))]
        return [sys.executable, "-c", SCRIPT, str(root), "qwen2.5-0.5b", *options, "seed=0", "eval_prompts=4", *more]

    return make


@pytest.fixture(scope="module")
def paper(command: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished paper."""
    root = tmp_path_factory.mktemp("paper")
    run(command(root))
    return root


def test_every_exhibit_has_ours_beside_the_papers(paper: Path) -> None:
    found = {one["name"]: one for one in json.loads((paper / "paper.json").read_text())}
    said = yaml.safe_load((ROOT / "paper" / "exhibits.yaml").read_text())
    assert list(found) == [one["name"] for one in said.values()]
    for one in found.values():
        for table in one["tables"]:
            assert all(len(line) == len(table["head"]) for line in table["lines"])
    ours, theirs = found["Tables 2 and 3"]["tables"]
    assert len(ours["lines"]) == 3 and len(theirs["lines"]) == 6
    assert all("%" in cell and "[" in cell for line in ours["lines"] for cell in line[1:])
    assert ["OPT-125M, HH-RLHF", "84 ± 0.62", "41.7 ± 0.77", "66.1 ± 0.26"] in theirs["lines"]


def test_curves_begin_at_the_model_that_training_began_with(paper: Path) -> None:
    """SFT and ORPO start from one model, so figures 3 and 7 begin at one point; so do both lines of 8 and all of 9."""
    found = {one["name"]: one for one in json.loads((paper / "paper.json").read_text())}
    begins = [
        tuple(line[2] for line in found[name]["tables"][0]["lines"][place : place + 2])
        for name, place in (("Figure 3", 0), ("Figure 7", 0), ("Figure 8", 2), ("Figure 9", 4))
    ]
    assert len(set(begins)) == 1


def test_the_page_needs_nothing_beside_it(paper: Path) -> None:
    page = (paper / "paper.html").read_text()
    assert "http" not in page.replace("http-equiv", "").replace('"http://www.w3.org', "")
    for name in ("figure-3", "figure-5", "figure-6", "figure-7", "figure-8", "figure-9"):
        assert "<svg" in (paper / f"{name}.svg").read_text()


def test_the_middles_reward_model_reinforces_every_size_and_one_judges_all(paper: Path) -> None:
    asked, judges = set(), set()
    for size in ("small", "middle", "large"):
        job = json.loads((paper / "_sessions" / size / "0" / "job.json").read_text())
        asked.add(json.loads(Path(job["pipelines"]["rlhf"][-1], "record.json").read_text())["reward_model"])
        judges.add(json.loads((paper / "_sessions" / size / "reward.json").read_text())["reward_model"])
    assert len(asked) == 1 and len(judges) == 1


def test_what_is_not_printed_is_a_dash() -> None:
    assert printed(table="table 1", model="Phi-2", method="", metric="AlpacaEval 2.0 win rate") == "–"
    assert printed(table="table 1", model="Phi-2", method="ORPO", metric="AlpacaEval 2.0 win rate") == "6.35 ± 0.74"
    with pytest.raises(KeyError):
        Exhibit("table-9")


def test_the_full_scale_is_planned_from_the_experiments() -> None:
    found = {one.name: one for one in plans([])}
    assert {"phi-2", "opt-125m-hh-rlhf", "llama-2-7b"} <= set(found) and "appendix-c" not in found
    assert "pipeline=all" in found["opt-1.3b-hh-rlhf"].command, "tables 2 and 3 have RLHF"
    assert found["phi-2"].hours > 0 and not found["phi-2"].runs_on([24.0]) and found["phi-2"].runs_on([80.0] * 8)


@pytest.mark.parametrize(
    "word",
    ["scale=tiny", "model=phi-2", "session=x", "orpo.beta=0.3", "+pipelines.x=[orpo]", "orpo.betta=1", "seed=", "foo"],
)
def test_what_is_not_the_users_to_choose_is_refused(word: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(main, [word]) == 2
    assert capfd.readouterr().err.count("\n") == 1


def test_the_first_failure_stops_it(command: Callable[..., list[str]], tmp_path: Path) -> None:
    said = run(command(tmp_path, "batch_size=0"), status=2)
    assert said.count("$ python -m") == 1 and "resume" not in said, "wrong input cannot go on"
