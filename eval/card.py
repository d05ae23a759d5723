"""`python -m eval.card [SESSION …]`: a model card for every stage that a session trained, in its model's directory."""

import re
import sys
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from eval.commands.cli import NoOptions, run
from eval.pages.html import render
from eval.results.cells import cells, markdown
from eval.results.options import UNSAID, flat, text
from eval.results.row import Row
from eval.results.rows import build_rows
from eval.results.session import evaluated, jobs_of, sessions
from eval.results.setting import Setting
from eval.results.table import notes, rows_of
from recipes.config import read_config, read_json, write_text
from recipes.methods import METHODS
from recipes.system.commands import output

MAIN = (
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "optim", "weight_decay", "max_grad_norm", "beta"),
    *("cpo_alpha", "simpo_gamma", "alpha", "desirable_weight", "undesirable_weight"),
    *("loss_type", "label_smoothing", "ratio", "nll_span", "nll_mean", "max_length", "disable_dropout", "bf16"),
    *("dtype", "use_peft", "load_in_4bit", "load_in_8bit"),
)
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def main(names: list[str], _: NoOptions) -> None:
    """Write the cards of every named session, or of the newest.

    Raises:
        UserError: a directory is no session, or nothing was evaluated.
    """
    for session in sessions(names):
        rows_of(session)  # fails if something was not trained or evaluated, before anything is written
        written: set[Path] = set()
        for job in filter(evaluated, jobs_of(session)):
            stages = {Path(stage) for stages in job["pipelines"].values() for stage in stages} - written
            rows = build_rows([job | {"setting": Setting()}]) if stages else []  # a card covers one setting
            for directory in sorted(stages):
                write_card(directory, job, rows)
            written |= stages


def write_card(directory: Path, job: dict[str, Any], rows: list[Row]) -> None:
    """Write a stage's card to its model's directory."""
    # Markdown, so nothing is escaped; it contains no model's text
    content = render("card.md.jinja", card(directory, job, rows), escape=False)
    place = directory / "model" / "README.md"
    write_text(place, f"{content}\n")
    output.print(f"card: {place}", soft_wrap=True)


def card(directory: Path, job: dict[str, Any], rows: list[Row]) -> dict[str, Any]:
    """Return the template's values; `rows` are of this job alone, so that the numbers are this model's."""
    config, record = read_config(directory), read_json(directory / "record.json")
    measured = [row for row in rows if row.stages and row.directories[0][-1] == directory]
    base, chosen = base_model(config["model"]), options(config)
    return {
        "front": front(record["stage"], base),
        "title": f"{record['stage'].upper()}: {job['model']} on {job['dataset']}",
        "method": METHODS[record["stage"]].about,
        "base": base,
        "revision": config["model"].get("model_revision"),
        "before": before(directory, rows),
        "record": record,
        "dropped": sorted({name for split in record["data"]["dropped"].values() for name in split}),
        "main": {name: value for name, value in chosen.items() if name.split(".")[-1] in MAIN},
        "options": chosen,
        "table": markdown(cells([*(row for row in rows if not row.stages), *measured])) if measured else [],
        "notes": list(notes(rows)),
        "prompts": job["evaluation"]["prompts"],
        "gold": job["evaluation"]["gold"],
        "new_tokens": job["evaluation"]["max_new_tokens"],
    }


def front(stage: str, base: str) -> str:
    """Return the Hub's YAML; a base model on the Hub is linked; the license is for the publisher to state."""
    linked: dict[str, Any] = {"base_model": base, "base_model_relation": "finetune"} if HUB_ID.fullmatch(base) else {}
    data = ModelCardData(library_name="transformers", pipeline_tag="text-generation", tags=["trl", stage], **linked)
    return data.to_yaml()


def base_model(model: dict[str, Any]) -> str:
    """Return the base model's id on the Hub, or the profile's name: a local path means nothing elsewhere."""
    name = model["model_name_or_path"]
    local = model.get("pocket_size") or Path(name).is_absolute() or Path(name).exists()
    return model["name"] if local else name


def before(directory: Path, rows: list[Row]) -> str:
    """Return the names of the stages before a stage, if any."""
    paths = [row.directories[0] for row in rows if row.stages and directory in row.directories[0]]
    stages = paths[0][: paths[0].index(directory)]
    return ", ".join(METHODS[read_json(stage / "record.json")["stage"]].label for stage in stages)


def options(config: dict[str, Any]) -> dict[str, str]:
    """Return the options of trainer and model; those that are null are left out."""
    wanted = {key: value for key, value in config.items() if key in ("options", "model_options")}
    named = {name: value for name, value in flat(wanted) if value is not None and name not in UNSAID}
    return {name.removeprefix("options."): text(value) for name, value in named.items()}


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, NoOptions, main))
