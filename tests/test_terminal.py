"""A session's table on a terminal: what there is room for, without a broken word."""

from pathlib import Path

import pytest
from tables import edit, make_session

from eval.commands.cli import NoOptions
from eval.results.table import write_table
from eval.results.terminal import show
from eval.table import main
from recipes.system.commands import output


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """Two seeds of a comparison."""
    return make_session(tmp_path)


@pytest.mark.parametrize("columns", [80, 600])
def test_a_terminal_shows_what_it_has_room_for(
    session: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """Seven rows: in 80 columns no word is broken, what decides is there, and where the rest is; in 600 all is."""
    monkeypatch.setattr(output, "_width", columns)
    edit(session, 0, setting={"orpo.learning_rate": 1e-5})
    edit(session, 1, setting={"orpo.learning_rate": 2e-5})
    main([str(session)], NoOptions())
    printed = capsys.readouterr().out
    drawing = [line for line in printed.splitlines() if line[:1] in "┏┃┡│└"]
    words = {word for line in drawing for word in line.strip("┃│ ").split()}
    flops = "1.00e3" if columns == 80 else "1.00e+03"
    assert {"orpo.learning_rate=1e-05", "2.00", "50.0%", flops} <= words and max(map(len, drawing)) <= columns
    assert ("▲ better" in printed) == (columns == 80) and printed.endswith(f"{session}/table.md\n")
    assert ("device-seconds" in words) == (columns == 600)


def test_a_few_pipelines_fit_eighty_columns(
    session: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No head and no label is broken, a verdict is a sign, and no group stands without a line."""
    monkeypatch.setattr(output, "_width", 80)
    write_table(session)
    table = capsys.readouterr().out.split("Win rates")[0]
    lines = [line.replace("┃", "│").strip("│").split("│") for line in table.splitlines()]
    cells = [[cell.strip() for cell in line] for line in lines]
    assert ["", "ORPO", "SFT → DPO", "SFT", "base model"] in cells
    assert ["win rate over SFT ↑", "25.0% ?", "100.0% ?", "–", "–"] in cells
    groups = [place for place, line in enumerate(cells) if len(line) == 5 and line[0] and not any(line[1:])]
    assert groups and all(any(cells[place + 1][1:]) for place in groups)


@pytest.mark.parametrize("count", [6, 9, 14])
def test_many_pipelines_break_no_figure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Where the columns do not fit side by side, they stand in several tables, each word and each figure whole."""
    monkeypatch.setattr(output, "_width", 80)
    names = [f"SFT → method{place}" for place in range(count)]
    figures = [[f"{kind}{10 + place}.5%" for place in range(count)] for kind in ("1", "2")]
    lines = [["", *names], ["Responses"], ["ended with a stop token", *figures[0]], ["b", *figures[1]]]
    show([("many", lines)])
    printed = capsys.readouterr().out.splitlines()
    words = [word for line in printed for word in line.replace("┃", "│").strip("│ ").split() if word != "│"]
    assert max(map(len, printed)) <= 80
    assert sorted(word for word in words if word.endswith("%")) == sorted([*figures[0], *figures[1]])
    assert {f"method{place}" for place in range(count)} <= set(words)
