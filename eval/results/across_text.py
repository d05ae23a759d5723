"""Across models in words: the section's table, the sentence that the answer begins with, and notes on both."""

from itertools import combinations

from eval.results.across import DIFFERS, SAME, UNKNOWN, Rivals, Section, across
from eval.results.deciding import scored_by
from eval.results.matrix import ABSENT, probability
from eval.results.metric import percent
from eval.results.phrases import listed, odds
from eval.results.row import Row
from eval.results.statistics import UNSURE

SFT = "sft"
HEAD = ["pair", "models", "with the first", "with the second", "verdict"]
HEAD += ["first minus second, points of win rate", "p", "p after Holm", "difference"]


def sections(rows: list[Row]) -> list[tuple[str, list[list[str]]]]:
    """Return each section as a table, head first, with its title: a line for each pair of pipelines and of models."""
    return [
        (title(found), [HEAD, *(line for pair in found.rivals for line in lines(pair))])
        for found in across(rows)
        if found.rivals
    ]


def lines(pair: Rivals) -> list[list[str]]:
    """Return a line for each two models."""
    found = []
    for one, other in combinations(pair.found, 2):
        rates = [f"{percent(pair.found[model].rate.mean)} {pair.found[model].verdict}" for model in (one, other)]
        cells = [" : ".join(pair.names), f"{one}, {other}", *rates, agreement(pair, one, other)]
        apart = pair.between.get((one, other))
        if apart is None:
            found.append([*cells, *[ABSENT] * 4])
        else:
            difference = apart.difference
            tests = [probability(difference.p), probability(difference.adjusted)]
            found.append([*cells, difference.points, *tests, "sure" if difference.sure else UNSURE])
    return found


def agreement(pair: Rivals, one: str, other: str) -> str:
    """Return whether two models' verdicts are the same, and where that cannot be told, with which one is sure."""
    found = pair.agreement(one, other)
    if found in (SAME, DIFFERS):
        return found
    sure = [model for model in (one, other) if pair.found[model].verdict != UNSURE]
    return f"sure with {sure[0]} alone" if sure else "not sure with either"


def told(rows: list[Row]) -> list[str]:
    """Return a sentence for each section: whether the verdict holds with every model, and whether win rates differ."""
    return [f"{title(found)}, {said(found)}." for found in across(rows)]


def title(found: Section) -> str:
    """Return a section's title."""
    return f"Across models at {found.setting}" if found.setting else "Across models"


def said(found: Section) -> str:
    """Return what a section says: of one pair of candidates all of it, of several how many hold."""
    left_out = f"the judge of {listed(found.weak)} is too weak"
    if not found.rivals:
        return (
            f"there is no verdict: {left_out}" if found.weak else "no pair of pipelines has a verdict with every model"
        )
    candidates = [pair for pair in found.rivals if SFT not in pair.pipelines] or found.rivals
    (first, *others) = candidates
    answer = counted(candidates) if others else f"{verdicts(first)}; {differences(first)}"
    return f"{answer}; {left_out}" if found.weak else answer


def verdicts(pair: Rivals) -> str:
    """Say whether the verdict on a pair is the same with every model."""
    one, other = pair.names
    kinds: dict[str, list[str]] = {}
    for model, found in pair.found.items():
        verdict = "not sure" if found.verdict == UNSURE else found.verdict
        kinds.setdefault(verdict, []).append(f"{model} ({odds(found.rate.mean)})")
    each = listed([f"{verdict} with {listed(models)}" for verdict, models in kinds.items()])
    kind = {
        SAME: f"the verdict is the same with {number(pair)}",
        DIFFERS: "the verdict differs",
        UNKNOWN: "whether the verdict is the same cannot be told",
    }
    return f"{one} against {other}: {kind[pair.agreement()]}, {each}"


def number(pair: Rivals) -> str:
    """Say how many models there are."""
    return "both models" if len(pair.found) == 2 else f"all {len(pair.found)} models"


def differences(pair: Rivals) -> str:
    """Say between which models the win rate differs."""
    if not pair.between:
        return "no prompts or no seeds are in common, so the win rates are not compared"
    apart = {names: one.difference for names, one in pair.between.items()}
    if sure := [f"{one} minus {other}: {found.points} points" for (one, other), found in apart.items() if found.sure]:
        return f"the win rates surely differ ({listed(sure)})"
    if len(apart) > 1:
        return "no two win rates surely differ"
    (((one, other), found),) = apart.items()
    return f"it is not sure that the win rates differ ({one} minus {other}: {found.points} points)"


def counted(rivals: list[Rivals]) -> str:
    """Return for how many pairs the verdict is the same with every model, and how many differences are sure."""
    kinds = [pair.agreement() for pair in rivals]
    apart = [one.difference for pair in rivals for one in pair.between.values()]
    same, differs = kinds.count(SAME), kinds.count(DIFFERS)
    return (
        f"of {len(rivals)} pairs of pipelines the verdict is the same with {number(rivals[0])} for {same}, differs "
        f"for {differs} and cannot be told for {len(rivals) - same - differs}; of {len(apart)} differences of win "
        f"rates {sum(one.sure for one in apart)} are sure"
    )


def notes(rows: list[Row]) -> list[str]:
    """Return notes on each section: who decided, what was subtracted, and over how many differences p was adjusted."""
    return [f"{title(found)}: {deciders(found)} {subtracted(found)}".strip() for found in across(rows) if found.rivals]


def deciders(found: Section) -> str:
    """Say who decides a win with each model, and what follows where each has a judge of its own."""
    judges = {model: judges_of(rows) for model, rows in found.models.items() if model not in found.weak}
    scored = {model: scored_by(found.models[model][0]) for model in judges}
    first, *others = judges.values()
    if all(names == first for names in others):
        return f"with every model a win is decided {next(iter(scored.values()))}."
    each = "; ".join(f"with {model} {by}" for model, by in scored.items())
    return (
        f"a win is decided {each}. Rewards of two judges are not on one scale. Win rates are, but a difference may "
        "come from the judges and not from the models: judge=reward:<model> names one judge for all."
    )


def judges_of(rows: list[Row]) -> set[str]:
    """Return the reward models that judged a model's responses; none where the gold reward decides."""
    return {result["judge"]["name"] for row in rows for result in row.results if "judge" in result}


def subtracted(found: Section) -> str:
    """Say what the differences are of."""
    apart = [one for pair in found.rivals for one in pair.between.values()]
    if not apart:
        return ""
    counts = sorted({one.prompts for one in apart})
    prompts = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    return (
        f"Differences are between win rates of each pair's first pipeline, paired over the {prompts} held-out prompts "
        f"that both models answered and the seeds that both have; p is adjusted over all {len(apart)} (Holm)."
    )
