"""`python -m eval.report [SESSION …]`: a comparison as one HTML page that needs nothing beside it, and as JSON.

Written beside the table as report.html and results.json, whose schema is docs/results.schema.json.
"""

import sys
from pathlib import Path
from typing import Any

from markupsafe import Markup

from eval.cli import NoOptions, run
from eval.console import console
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
from recipes.system.versions import provenance


def main(names: list[str], _: NoOptions) -> None:
    """Write the page of every session named, or of the newest.

    Raises:
        UserError: a directory is no session, or nothing was evaluated yet.
    """
    for session in sessions(names):
        write_report(session)


def write_report(session: Path) -> None:
    """Write report.html and results.json into a session's directory.

    Raises:
        UserError: no job has trained anything, or nothing was evaluated yet.
    """
    rows, jobs = rows_of(session), jobs_of(session)
    found = trainings(rows)
    write_json(session / "results.json", results(session, rows, jobs, found))
    write_text(session / "report.html", render("report.html.jinja", page(session, rows, jobs, found)))
    console.print(f"report: {session}/report.html; results.json", soft_wrap=True)


def page(session: Path, rows: list[Row], jobs: list[dict[str, Any]], found: list[Training]) -> dict[str, Any]:
    """Return what the template shows."""
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
    """Return a figure's caption, with the setting that it is of in a sweep."""
    return f"{setting}: {said}" if setting else said


def training_figures(rows: list[Row], found: list[Training]) -> list[tuple[Markup, str]]:
    """Return the figures of the training, each with how to read it."""
    held_out = (
        "The one measure that means the same for every method: the mean log-prob of the held-out answers that the "
        "table has, at the end of every stage that was evaluated. Bars are its 95% intervals; solid lines and "
        "circles are chosen answers, dashed lines and squares rejected ones."
    )
    drawn = [
        *((figures.held_out(group, found), captioned(setting, held_out)) for setting, group in with_bases(rows)),
        (
            figures.losses(found),
            "What each method minimises, a line for every training. The losses mean different things, so each has an "
            "axis of its own; only their course can be compared. DPO begins where the SFT before it ended.",
        ),
        (
            figures.log_probs(found),
            "Log-probs of the pairs in training, solid for chosen and dashed for rejected answers, a line for every "
            "training. DPO logs sums over an answer's tokens and ORPO means, so they are not laid over each other.",
        ),
    ]
    return [(Markup(figure), caption) for figure, caption in drawn if figure]  # ours, not a model's


def sweep_figures(rows: list[Row]) -> list[tuple[Markup, str]]:
    """Return the figure of a sweep's settings; none where there is one setting."""
    if not is_sweep(rows):
        return []
    said = (
        f"A line for every setting, through the values of its options to its {outcome(rows).label}, the mean over "
        "seeds; each method's best setting is thick. Values stand at equal distances, whatever they are."
    )
    return [(Markup(parallel_coordinates(rows)), said)]


def score_figures(rows: list[Row]) -> list[tuple[Markup, str]]:
    """Return the distributions of what the models' answers and rankings are worth."""
    drawn = []
    for setting, group in with_bases(rows):
        if rows[0].embedded:
            rewards = [GOLD.scores(row) for row in group]
            figure = figures.distribution(group, rewards, "gold reward of an answer at temperature 1")
            drawn.append((figure, captioned(setting, "Further right is better. All seeds together.")))
        gaps = [MARGIN.scores(row) for row in group]
        figure = figures.distribution(group, gaps, "log-prob of chosen - rejected, nats per token")
        said = "Held-out pairs; those left of zero are ranked wrong. All seeds together."
        drawn.append((figure, captioned(setting, said)))
    return [(Markup(figure), caption) for figure, caption in drawn]


def cost_figures(rows: list[Row]) -> list[tuple[Markup, str]]:
    """Return what each setting's pipelines cost."""
    said = "Stacked by stage, the mean over seeds; the numbers are the table's."
    return [(Markup(figures.ledger(group)), captioned(setting, said)) for setting, group in with_bases(rows)]


def stages(found: list[Training]) -> list[list[str]]:
    """Return what every stage was made by and from, head first."""
    head = ["stage", "digest", "seed", "commit", "data fingerprint", "pairs", "device", "processes"]
    return [head, *(provenance_of(training.record) for training in found)]


def provenance_of(record: dict[str, Any]) -> list[str]:
    """Return one stage's line; a commit whose files were changed ends in +."""
    commit = f"{(record['commit'] or 'unknown')[:12]}{'+' if record['dirty'] else ''}"
    names = [record["stage"], record["digest"], record["seed"], commit, record["data_fingerprint"]]
    return [*map(str, names), f"{record['data']['pairs']['train']:,}", record["device"], str(record["processes"])]


def versions(found: list[Training]) -> list[list[str]]:
    """Return the libraries' versions, head first; several of one library are all named."""
    names = dict.fromkeys(name for training in found for name in training.record["versions"])
    used = {name: dict.fromkeys(training.record["versions"].get(name, "–") for training in found) for name in names}
    return [["library", "version"], *([name, ", ".join(known)] for name, known in used.items())]


def configured(rows: list[Row]) -> dict[str, Path]:
    """Return name -> directory of every stage of the rows' first seeds; one that is shared is there once."""
    found: dict[Path, str] = {}
    for row in rows:
        for stage, directory in zip(row.stages, row.directories[0], strict=False):  # a base model has no stages
            found.setdefault(directory, f"{stage} {row.setting}".strip())
    return {name: directory for directory, name in found.items()}


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, NoOptions, main))
