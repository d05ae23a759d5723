"""`python -m eval.report [SESSION …]`: a comparison as one self-contained HTML page, as JSON, and its responses.

Written beside the table as report.html, as results.json, whose schema is docs/results.schema.json, and responses.jsonl.
"""

import sys
from pathlib import Path
from typing import Any

from markupsafe import Markup

from eval.commands.cli import NoOptions, run
from eval.pages import figures
from eval.pages.html import render
from eval.pages.samples import side_by_side
from eval.pages.sweep import parallel_coordinates
from eval.pages.trade_off import CAPTION, trade_off
from eval.results.across_text import sections
from eval.results.best import best_settings, budgets, is_sweep, outcome
from eval.results.carried import carried_over
from eval.results.cells import cells
from eval.results.deciding import outcomes
from eval.results.effects import stage_or_loss
from eval.results.headline import MOST
from eval.results.history import Training, trainings
from eval.results.matrix import explain, matrices, tests
from eval.results.metrics import MARGIN, WIN
from eval.results.options import differences
from eval.results.responses import as_lines
from eval.results.results_json import results
from eval.results.row import Row
from eval.results.rows import NAMES, missing, with_bases
from eval.results.scope import scope, subjects
from eval.results.session import jobs_of, sessions
from eval.results.setting import Setting
from eval.results.statistics import ABSENT
from eval.results.table import answer, notes, rows_of
from recipes.config import write_json, write_text
from recipes.system.commands import output
from recipes.system.versions import provenance


def main(names: list[str], _: NoOptions) -> None:
    """Write the page of every named session, or of the newest.

    Raises:
        UserError: a directory is no session, or nothing was evaluated.
    """
    for session in sessions(names, measured=True):
        write_report(session, rows_of(session))


def write_report(session: Path, rows: list[Row]) -> None:
    """Write report.html, results.json and responses.jsonl to a session's directory, of its rows."""
    jobs = jobs_of(session)
    found = trainings(rows)
    write_json(session / "results.json", results(session, rows, jobs, found))
    write_text(session / "report.html", render("report.html.jinja", page(session, rows, jobs, found)))
    write_text(session / "responses.jsonl", as_lines(rows))
    output.print(f"page: {session}/report.html, with results.json and responses.jsonl beside it", soft_wrap=True)


def page(session: Path, rows: list[Row], jobs: list[dict[str, Any]], found: list[Training]) -> dict[str, Any]:
    """Return the template's values."""
    differing, particular = differences(configured(rows))
    pipelines = dict.fromkeys(NAMES.get(row.pipeline, row.pipeline) for row in rows if row.stages)
    first, *further = answer(rows)
    return {
        "title": f"{', '.join(pipelines)}: {subjects(jobs)}",
        "session": session.name,
        "answer": first,
        "further": further,
        "trade_off": trade_offs(rows),
        "scope": scope(rows, jobs),
        "table": cells(rows),
        "matrices": [lines for _, lines in matrices(rows)],
        "across": sections(rows),
        "effects": stage_or_loss(rows),
        "carried": [lines for _, lines in carried_over(rows)],
        "tests": tests(rows),
        "notes": [*notes(rows), *explain(rows)],
        "missing": missing(jobs),
        "best": best_settings(rows) if is_sweep(rows) else [],
        "budgets": budgets(rows),
        "sweep": sweep_figures(rows),
        "rewards": reward_figures(rows),
        "examples": side_by_side(rows),
        "costs": cost_figures(rows),
        "log_probs": log_prob_figures(rows, found),
        "training": training_figures(found),
        "differing": differing,
        "particular": particular,
        "stages": stages(found),
        "versions": versions(found),
        "written": provenance(),
    }


def captioned(setting: Setting, said: str) -> str:
    """Return a figure's caption; in a sweep it names the setting."""
    return f"{setting}: {said}" if setting else said


def ours(drawn: list[tuple[str, str]]) -> list[tuple[Markup, str]]:
    """Return those figures that show something; they are ours, so they are no text to escape."""
    return [(Markup(figure), caption) for figure, caption in drawn if figure]


def trade_offs(rows: list[Row]) -> list[tuple[Markup, str]]:
    """Return the figure of quality against cost of each setting, if they are few enough for the first screen."""
    settings = with_bases(rows)
    drawn = [(trade_off(group), captioned(setting, CAPTION)) for setting, group in settings if len(settings) <= MOST]
    return ours(drawn)


def log_prob_figures(rows: list[Row], found: list[Training]) -> list[tuple[Markup, str]]:
    """Return the figures of held-out log-probs, each with a caption that explains it."""
    drawn = []
    for setting, group in with_bases([row for row in rows if row.paired]):
        said = (
            "The table's mean log-prob of held-out responses, after every evaluated stage; it has the same definition "
            "for every method. Bars are 95% intervals; solid lines and circles are chosen responses, dashed lines and "
            "squares rejected ones."
        )
        drawn.append((figures.held_out(group, found), captioned(setting, said)))
        gaps = [MARGIN.scores(row) for row in group]
        figure = figures.distribution(group, gaps, "log-prob of chosen - rejected, nats per token")
        said = "Held-out pairs; left of zero the rejected response is the likelier one. All seeds together."
        drawn.append((figure, captioned(setting, said)))
    return ours(drawn)


def training_figures(found: list[Training]) -> list[tuple[Markup, str]]:
    """Return what the trainings logged, each figure with a caption that explains it."""
    of_losses = (
        "The loss that each method minimizes, one line per training. The losses are not comparable: each has its "
        "own axis; compare only their shape. A method after SFT starts where SFT ended."
    )
    of_pairs = (
        "Log-probs of the pairs in training, solid for chosen and dashed for rejected responses, one line per "
        "training. Some methods log sums over a response's tokens and others means, so each has its own panel."
    )
    return ours([(figures.losses(found), of_losses), (figures.log_probs(found), of_pairs)])


def sweep_figures(rows: list[Row]) -> list[tuple[Markup, str]]:
    """Return the figure of a sweep's settings; none if there is only one setting."""
    if not is_sweep(rows):
        return []
    said = (
        f"One line per setting, through the values of its options to its {outcome(rows).label}, the mean over "
        "seeds; each method's best setting is thick. Values are evenly spaced, whatever their size."
    )
    return [(Markup(parallel_coordinates(rows)), said)]


def reward_figures(rows: list[Row]) -> list[tuple[Markup, str]]:
    """Return the distributions of what decides a win: gold rewards, or those of the judge."""
    drawn = []
    for setting, group in with_bases(rows):
        if decides := outcomes(group[0]).get(WIN):
            label = f"{decides.label.partition(',')[0]} of a response at temperature 1"
            scored = [row for row in group if row.values[decides.key] is not None]
            figure = figures.distribution(scored, [decides.scores(row) for row in scored], label)
            drawn.append((figure, captioned(setting, "Further right is better. All seeds together.")))
    return ours(drawn)


def cost_figures(rows: list[Row]) -> list[tuple[Markup, str]]:
    """Return the cost figure of each setting's pipelines."""
    said = "Stacked by stage, the mean over seeds; the numbers are the table's."
    return [(Markup(figures.ledger(group)), captioned(setting, said)) for setting, group in with_bases(rows)]


def stages(found: list[Training]) -> list[list[str]]:
    """Return every stage's provenance, head first."""
    head = ["stage", "digest", "seed", "commit", "data fingerprint", "rows", "device", "processes"]
    return [head, *(provenance_of(training.record) for training in found)]


def provenance_of(record: dict[str, Any]) -> list[str]:
    """Return one stage's line; a commit with uncommitted changes ends in +."""
    shown = record.get("demonstrations", record["data"])
    commit = f"{(record['commit'] or 'unknown')[:12]}{'+' if record['dirty'] else ''}"
    names = [record["stage"], record["digest"], record["seed"], commit, record["data_fingerprint"]]
    return [*map(str, names), f"{shown['pairs']['train']:,}", record["device"], str(record["processes"])]


def versions(found: list[Training]) -> list[list[str]]:
    """Return the libraries' versions, head first; all of them if a library has several."""
    names = dict.fromkeys(name for training in found for name in training.record["versions"])
    used = {name: dict.fromkeys(training.record["versions"].get(name, ABSENT) for training in found) for name in names}
    return [["library", "version"], *([name, ", ".join(known)] for name, known in used.items())]


def configured(rows: list[Row]) -> dict[str, Path]:
    """Return name -> directory of every stage of the rows' first seeds, shared ones once."""
    found: dict[Path, str] = {}
    for row in rows:
        for stage, directory in zip(row.stages, row.directories[0], strict=False):  # a base model has no stages
            name = f"{stage} {row.setting}".strip()
            taken = name in found.values()  # pipelines that were tuned have stages of the same method and other options
            found.setdefault(directory, f"{stage} of {row.pipeline} {row.setting}".strip() if taken else name)
    return {name: directory for directory, name in found.items()}


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, NoOptions, main))
