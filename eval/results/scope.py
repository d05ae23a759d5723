"""What a comparison covers: data, base model, seeds and prompts, what was tuned, and what was held equal."""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from eval.results.cells import text
from eval.results.deciding import prompts_of
from eval.results.metrics import FLOPS, PAIRS, SECONDS, TOKENS
from eval.results.phrases import listed
from eval.results.row import Row
from eval.results.rows import NAMES
from recipes.profiles import VALIDATION

WORDS = {"chosen": "good ones", "rejected": "bad ones"}
BUDGETS = {"pairs": PAIRS, "tokens": TOKENS, "flops": FLOPS, "seconds": SECONDS}


def scope(rows: list[Row], jobs: list[dict[str, Any]]) -> list[str]:
    """Return sentences on what the answer covers, and what it does not."""
    return [covered(rows, jobs), whose(rows), *shown(rows), *unpaired(rows), *tuned(rows, jobs), *held_equal(rows)]


def subjects(jobs: list[dict[str, Any]]) -> str:
    """Return every base model with the data that it was trained on."""
    trained = (f"base model {job['model']}, data {job['dataset']}" for job in jobs if job["pipelines"])
    return "; ".join(dict.fromkeys(trained))


def covered(rows: list[Row], jobs: list[dict[str, Any]]) -> str:
    """Say which base model, data, prompts and seeds were compared."""
    seeds = sorted({seed for row in rows for seed in row.seeds})
    counted = f"{prompts_of(rows[0])} held-out prompts, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    world = "the embedded world, " if rows[0].embedded else ""
    chooses = any(job["evaluation"].get("split") == VALIDATION for job in jobs)
    split = " Of the validation split: settings are chosen here, and the winner is yet to be tested." if chooses else ""
    return f"Scope: {world}{subjects(jobs)}, {counted}.{split}"


def whose(rows: list[Row]) -> str:
    """Say whether the answer is about models or methods."""
    if max(len(row.seeds) for row in rows) > 1:
        several = len({row.setting.model for row in rows}) > 1
        return f"Several seeds: about the methods, on these pairs and {'each' if several else 'this'} base model."
    return "One seed: about these models only; several seeds (seed=0,1,2) also say something about the methods."


def shown(rows: list[Row]) -> Iterable[str]:
    """Say which pipelines learnt from demonstrations that others did not see, setting by setting."""
    for setting, group in groupby((row for row in rows if row.stages), key=lambda row: row.setting):
        trained = {NAMES.get(row.pipeline, row.pipeline): row.records[0] for row in group}
        learnt = [name for name, records in trained.items() if any("demonstrations" in record for record in records)]
        found = [record.get("demonstrations") for records in trained.values() for record in records]
        counts = {source: count for of in found if of for source, count in of["sources"]["train"].items()}
        if learnt:
            others = [name for name in trained if name not in learnt]
            told = f", which {listed(others)} did not see" if others else ""
            what = listed([f"{count:,} demonstrations of {source}" for source, count in counts.items()])
            when = f" ({setting})" if str(setting) else ""
            yield f"SFT on other data{when}: {listed(learnt)} learnt from {what}{told}."


def unpaired(rows: list[Row]) -> Iterable[str]:
    """Say which pipelines learnt from responses without a partner, setting by setting."""
    for setting, group in groupby((row for row in rows if row.stages), key=lambda row: row.setting):
        learnt: dict[str, list[str]] = {}
        members = list(group)
        for row in members:
            found = [record["unpaired"] for record in row.records[0] if "unpaired" in record]
            most = {side: max(one.get(side, 0) for one in found) for side in WORDS} if found else {}
            counts = listed([f"{count:,} {WORDS[side]}" for side, count in most.items() if count])
            learnt.setdefault(counts, []).append(NAMES.get(row.pipeline, row.pipeline))
        others = learnt.pop("", [])
        said = [f"{listed(names)} learnt from {counts}" for counts, names in learnt.items()]
        if said:
            told = f", which {listed(others)} did not see" if others else ""
            when = f" ({setting})" if str(setting) else ""
            yield f"Responses without a partner{when}: {'; '.join(said)}{told}."


def tuned(rows: list[Row], jobs: list[dict[str, Any]]) -> Iterable[str]:
    """Say what was tuned, how, and which best setting is at the edge of what was tried."""
    found = next((job["tuned"] for job in jobs if job.get("tuned")), None)
    if found:
        by = found.get("by") or "the judge"  # of older sessions
        yield f"Tuned: {found['trials']} trials of each pipeline, chosen by {by} on the validation split."
        for name, search in found["pipelines"].items():
            if search["at_edge"]:
                edges = listed(search["at_edge"])
                said = f"its best values of {edges} are at the edge"
                yield f"{NAMES.get(name, name)} may do better beyond what was tried: {said}."
    elif by := next((job["tuned_by"] for job in jobs if job.get("tuned_by")), None):
        yield f"Settings: {by}."
    elif rows[0].embedded:
        yield "Nothing was tuned here; the defaults were, on the validation prompts of this world (docs/pocket.md)."
    else:
        yield "Nothing was tuned: each method has the settings of its configuration (tune=8 tunes all alike)."


def held_equal(rows: list[Row]) -> Iterable[str]:
    """Return notes on which of pairs, tokens, FLOPs and device-seconds were matched, how closely, and the rest."""
    trained = [row for row in rows if row.stages]
    free = [row for row in trained if not row.budgets]
    if free and len(trained) > 1:
        settings = ", ".join(dict.fromkeys(str(row.setting) for row in free))
        yield (
            f"Nothing was matched{f' at {settings}' if len(free) < len(trained) else ''}: pipelines trained as "
            "configured; pairs read, tokens, FLOPs and device-seconds are rows of the table."
        )
    for setting, group in groupby(trained, lambda row: row.setting):
        members = list(group)
        if members[0].budgets:
            yield f"Matched{f' at {setting}' if setting else ''}: {budget(members)}"


def budget(rows: list[Row]) -> str:
    """Return the matched budget of a setting's pipelines, and what they spent of the other quantities."""
    first = rows[0].budgets[0]
    held, of = BUDGETS[first["held"]], NAMES.get(first["of"], first["of"])
    amount = held.text(sum(found["amount"] for found in rows[0].budgets) / len(rows[0].budgets))
    rest = [cost for cost in BUDGETS.values() if cost != held]
    spent = {row.pipeline: ", ".join(f"{text(cost, row)} {cost.label}" for cost in rest) for row in rows}
    said = "; ".join(f"{NAMES.get(name, name)} {figures}" for name, figures in spent.items())
    return f"{held.label}, at the {amount} of {of} (all within {max(map(deviation, rows)):.1%}). Not matched: {said}."


def deviation(row: Row) -> float:
    """Return the largest relative deviation of a row's seeds from their budget."""
    spent = BUDGETS[row.budgets[0]["held"]].spent(row)
    return max(abs(found / budget["amount"] - 1) for found, budget in zip(spent, row.budgets, strict=True))
