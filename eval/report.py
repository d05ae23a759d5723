"""`python -m eval.report [SESSION …]`: a comparison as one self-contained HTML page, and as JSON.

Written beside the table as report.html and results.json, whose schema is docs/results.schema.json.
"""

import sys
from pathlib import Path
from typing import Any

from markupsafe import Markup

from eval.commands.cli import NoOptions, run
from eval.pages import figures
from eval.pages.html import render
from eval.pages.samples import side_by_side
from eval.pages.sweep import best_settings, budgets, is_sweep, outcome, parallel_coordinates
from eval.results.history import Training, trainings
from eval.results.matrix import explain, matrices, tests
from eval.results.metrics import GOLD, MARGIN
from eval.results.options import differences
from eval.results.results_json import results
from eval.results.row import Row
from eval.results.rows import NAMES, missing, with_bases
from eval.results.session import jobs_of, sessions
from eval.results.setting import Setting
from eval.results.table import cells, notes, rows_of
from recipes.config import write_json, write_text
from recipes.system.commands import output
from recipes.system.versions import provenance


def main(names: list[str], _: NoOptions) -> None:
    """Write the page of every named session, or of the newest.

    Raises:
        UserError: a directory is no session, or nothing was evaluated.
    """
    for session in sessions(names):
        write_report(session)


def write_report(session: Path) -> None:
    """Write report.html and results.json to a session's directory.

    Raises:
        UserError: no job trained anything, or nothing was evaluated.
    """
    rows, jobs = rows_of(session), jobs_of(session)
    found = trainings(rows)
    write_json(session / "results.json", results(session, rows, jobs, found))
    write_text(session / "report.html", render("report.html.jinja", page(session, rows, jobs, found)))
    output.print(f"report: {session}/report.html; results.json", soft_wrap=True)


def page(session: Path, rows: list[Row], jobs: list[dict[str, Any]], found: list[Training]) -> dict[str, Any]:
    """Return the template's values."""
    differing, particular = differences(configured(rows))
    pipelines = dict.fromkeys(NAMES.get(row.pipeline, row.pipeline) for row in rows if row.stages)
    subjects = dict.fromkeys(f"{job['model']} on {job['dataset']}" for job in jobs if job["pipelines"])
    return {
        "title": f"{', '.join(pipelines)}: {', '.join(subjects)}",
        "session": session.name,
        "table": cells(rows),
        "matrices": [lines for _, lines in matrices(rows)],
        "tests": tests(rows),
        "notes": [*notes(rows), *explain(rows)],
        "missing": missing(jobs),
        "best": best_settings(rows) if is_sweep(rows) else [],
        "budgets": budgets(rows),
        "sweep": sweep_figures(rows),
        "training": training_figures(rows, found),
        "scores": score_figures(rows),
        "costs": cost_figures(rows),
        "prompts": side_by_side(rows),
        "differing": differing,
        "particular": particular,
        "stages": stages(found),
        "versions": versions(found),
        "written": provenance(),
    }


def captioned(setting: Setting, said: str) -> str:
    """Return a figure's caption; in a sweep it names the setting."""
    return f"{setting}: {said}" if setting else said


def training_figures(rows: list[Row], found: list[Training]) -> list[tuple[Markup, str]]:
    """Return the training's figures, each with a caption that explains it."""
    held_out = (
        "The one measure with the same definition for every method: the table's mean log-prob of held-out "
        "responses, after every evaluated stage. Bars are 95% intervals; solid lines and "
        "circles are chosen responses, dashed lines and squares rejected ones."
    )
    drawn = [
        *((figures.held_out(group, found), captioned(setting, held_out)) for setting, group in with_bases(rows)),
        (
            figures.losses(found),
            "The loss that each method minimizes, one line per training. The losses are not comparable: each has its "
            "own axis; compare only their course. DPO starts where the SFT before it ended.",
        ),
        (
            figures.log_probs(found),
            "Log-probs of the pairs in training, solid for chosen and dashed for rejected responses, one line per "
            "training. DPO logs sums over a response's tokens and ORPO means, so they are in separate panels.",
        ),
    ]
    return [(Markup(figure), caption) for figure, caption in drawn if figure]  # ours, not a model's


def sweep_figures(rows: list[Row]) -> list[tuple[Markup, str]]:
    """Return the figure of a sweep's settings; none if there is only one setting."""
    if not is_sweep(rows):
        return []
    said = (
        f"One line per setting, through the values of its options to its {outcome(rows).label}, the mean over "
        "seeds; each method's best setting is thick. Values are evenly spaced, whatever their size."
    )
    return [(Markup(parallel_coordinates(rows)), said)]


def score_figures(rows: list[Row]) -> list[tuple[Markup, str]]:
    """Return the distributions of gold rewards and of preference margins."""
    drawn = []
    for setting, group in with_bases(rows):
        if rows[0].embedded:
            rewards = [GOLD.scores(row) for row in group]
            figure = figures.distribution(group, rewards, "gold reward of a response at temperature 1")
            drawn.append((figure, captioned(setting, "Further right is better. All seeds together.")))
        gaps = [MARGIN.scores(row) for row in group]
        figure = figures.distribution(group, gaps, "log-prob of chosen - rejected, nats per token")
        said = "Held-out pairs; left of zero the rejected response is the likelier one. All seeds together."
        drawn.append((figure, captioned(setting, said)))
    return [(Markup(figure), caption) for figure, caption in drawn]


def cost_figures(rows: list[Row]) -> list[tuple[Markup, str]]:
    """Return the cost figure of each setting's pipelines."""
    said = "Stacked by stage, the mean over seeds; the numbers are the table's."
    return [(Markup(figures.ledger(group)), captioned(setting, said)) for setting, group in with_bases(rows)]


def stages(found: list[Training]) -> list[list[str]]:
    """Return every stage's provenance, head first."""
    head = ["stage", "digest", "seed", "commit", "data fingerprint", "pairs", "device", "processes"]
    return [head, *(provenance_of(training.record) for training in found)]


def provenance_of(record: dict[str, Any]) -> list[str]:
    """Return one stage's line; a commit with uncommitted changes ends in +."""
    commit = f"{(record['commit'] or 'unknown')[:12]}{'+' if record['dirty'] else ''}"
    names = [record["stage"], record["digest"], record["seed"], commit, record["data_fingerprint"]]
    return [*map(str, names), f"{record['data']['pairs']['train']:,}", record["device"], str(record["processes"])]


def versions(found: list[Training]) -> list[list[str]]:
    """Return the libraries' versions, head first; all of them if a library has several."""
    names = dict.fromkeys(name for training in found for name in training.record["versions"])
    used = {name: dict.fromkeys(training.record["versions"].get(name, "–") for training in found) for name in names}
    return [["library", "version"], *([name, ", ".join(known)] for name, known in used.items())]


def configured(rows: list[Row]) -> dict[str, Path]:
    """Return name -> directory of every stage of the rows' first seeds, shared ones once."""
    found: dict[Path, str] = {}
    for row in rows:
        for stage, directory in zip(row.stages, row.directories[0], strict=False):  # a base model has no stages
            found.setdefault(directory, f"{stage} {row.setting}".strip())
    return {name: directory for directory, name in found.items()}


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, NoOptions, main))
