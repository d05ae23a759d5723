"""The ORPO paper's tables and figures as `make paper` measured them, on one page with the published values.

    python -m paper.page [DIRECTORY]

Reads the sessions of `make paper` in the directory (default: runs/_paper), and writes paper.html, paper.md and
paper.json there, and each figure as an SVG.
"""

import sys
from pathlib import Path
from typing import Any

from eval.commands.cli import NoOptions, run
from eval.pages.html import render
from eval.pages.plots import standalone
from eval.results.cells import markdown
from eval.results.table import rows_of
from paper.claims import ACROSS, CLAIMS, HEAD, by_setting, line
from paper.exhibits import SIZES, Exhibit, Rows, exhibits
from recipes.config import UserError, write_json, write_text
from recipes.system.commands import output
from recipes.system.versions import provenance

TITLE = "The ORPO paper, table by table, in the embedded world"
ABOUT = (
    "Everything here was trained and measured by `make paper`, on models of 0.3 to 1.7 million parameters in a world "
    "of invented places. It shows how the methods behave at this scale. It says nothing about a 7B model.",
    "Each table has the paper's values beside ours, and says below whether the two are comparable.",
)


def main(names: list[str], _: NoOptions) -> None:
    """Write the page.

    Raises:
        UserError: a session is missing, or was not evaluated.
    """
    root = Path(names[0]) if names else Path("runs", "_paper")
    sizes = {name: one_setting(root, name) for name in SIZES}
    found = [*exhibits(root, sizes), claims(root / "_sessions", sizes)]
    for exhibit in found:
        for number, (figure, _caption) in enumerate(exhibit.figures):
            write_text(root / f"{exhibit.anchor}{f'-{number}' if number else ''}.svg", standalone(figure))
    write_json(root / "paper.json", [as_json(exhibit) for exhibit in found])
    write_text(root / "paper.md", as_markdown(found))
    write_text(root / "paper.html", page(found))
    for exhibit in found:
        output.print(f"{exhibit.name}: {exhibit.subject}", soft_wrap=True)
    output.print(f"paper: {root}/paper.html, paper.md, paper.json, and an SVG for each figure", soft_wrap=True)


def one_setting(root: Path, name: str) -> Rows:
    """Return pipeline -> row for a session with one setting.

    Raises:
        UserError: the session does not exist.
    """
    session = root / "_sessions" / name
    if not any(session.glob("*/job.json")):
        raise UserError(f"{session} is missing: run `make paper`")
    return {row.pipeline: row for row in rows_of(session)}


def claims(sessions: Path, sizes: dict[str, Rows]) -> Exhibit:
    """Return the paper's claims as measured with the middle size, or with the sessions that a claim spans."""
    spanning = {"tables 2 and 3": list(sizes.values()), "figure 8": settings(sessions / "ratio")}
    spanning["figure 9"] = settings(sessions / "weight")
    middle = sizes["middle"]
    ours = [line(claim, claim.measure(middle)) for claim in CLAIMS]
    wider = [line(claim, claim.measure(spanning.get(claim.where, [middle]))) for claim in ACROSS]
    return Exhibit("claims", [("From the middle size.", [HEAD, *ours]), ("From several sessions.", [HEAD, *wider])])


def settings(session: Path) -> list[Rows]:
    """Return the rows of each setting of a session."""
    return [rows for _, rows in by_setting(rows_of(session))]


def as_json(exhibit: Exhibit) -> dict[str, Any]:
    """Return an exhibit as plain values."""
    tables = [{"caption": caption, "head": lines[0], "lines": lines[1:]} for caption, lines in exhibit.tables]
    names = {"name": exhibit.name, "subject": exhibit.subject, "comparable": exhibit.comparable}
    return {**names, "tables": tables, "figures": [caption for _, caption in exhibit.figures]}


def as_markdown(found: list[Exhibit]) -> str:
    """Return the page in Markdown; figures are the SVGs beside it."""
    parts = [f"# {TITLE}", "", *(line for said in ABOUT for line in (said, ""))]
    for exhibit in found:
        parts += [f"## {exhibit.name}: {exhibit.subject}", ""]
        for caption, lines in exhibit.tables:
            parts += [caption, "", *markdown(lines), ""]
        if exhibit.figures:
            parts += [f"![{exhibit.subject}]({exhibit.anchor}.svg)", "", exhibit.figures[0][1], ""]
        parts += [exhibit.comparable, ""]
    return "\n".join(parts)


def page(found: list[Exhibit]) -> str:
    """Return the page as self-contained HTML."""
    values = {"title": TITLE, "about": ABOUT, "exhibits": found, "written": provenance()}
    return render("paper.html.jinja", values, Path(__file__).parent)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, NoOptions, main))
