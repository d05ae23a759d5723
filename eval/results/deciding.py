"""What a win is decided by: a judge's reward of the responses, the gold reward, or nothing."""

from eval.results.metrics import ACCURACY, GOLD, PEOPLE, REWARD, RIGHT, WIN, Measured, judge_accuracy, percent
from eval.results.row import Row

STRONG = 0.55  # a judge's least accuracy, at the lower end of its interval


def deciding(rows: list[Row]) -> Measured:
    """Return what settings are chosen by: their judge's reward, else the gold reward, else which response is likelier.

    A judge that is too weak for a verdict is too weak to choose. Rewards of several judges have no common scale.
    """
    if all(row.judged for row in rows):
        return ACCURACY if any(map(weak, rows)) or several_judges(rows) else REWARD
    return GOLD if all(row.golden and not row.judged for row in rows) else ACCURACY


def several_judges(rows: list[Row]) -> bool:
    """Whether settings of one base model and seed were judged by different reward models, or only some of them."""
    judges: dict[tuple[str | None, int], set[str | None]] = {}
    for row in rows:
        for seed, result in zip(row.seeds, row.results, strict=True):
            judges.setdefault((row.setting.model, seed), set()).add(result.get("judge", {}).get("name"))
    return any(len(names) > 1 for names in judges.values())


def outcomes(row: Row) -> dict[str, Measured]:
    """Return what pipelines are compared by.

    A win is decided by responses alone: the judge's reward, or without a judge the gold reward. Preference accuracy is
    never a win. It asks which of two given responses is likelier, which is what ORPO and SimPO train.
    """
    unjudged = row.results[0].get("settings", {}).get("judge", "gold") is None
    decides = REWARD if row.judged else GOLD if row.golden and not unjudged else None
    found = {WIN: decides} if decides else {}
    parts = [*([GOLD] if row.golden else []), *([RIGHT] if row.embedded else [])]
    found |= {metric.key: metric for metric in parts if metric is not decides}
    return found | ({ACCURACY.key: ACCURACY} if row.paired else {})


def compared_by(row: Row, outcome: str) -> str:
    """Return the label of what decides an outcome."""
    return "people's votes" if outcome == PEOPLE else outcomes(row)[outcome].label


def prompts_of(row: Row) -> int:
    """Return how many prompts were answered with each seed."""
    return len(row.results[0]["clusters"]["prompts"])


def weak(row: Row) -> bool:
    """Whether its judge is too weak to decide: right about so few held-out pairs that it may be below `STRONG`."""
    found = judge_accuracy(row)
    return found is not None and found.low < STRONG


def scored_by(row: Row) -> str:
    """Say what decides a win."""
    decides = outcomes(row).get(WIN)
    if decides is None:
        return "none, as no judge was asked"
    found = judge_accuracy(row)
    if found is None:
        return "by the gold reward of the responses at temperature 1"
    accuracy = f"{percent(found.mean)} [{percent(found.low)}, {percent(found.high)}]"
    said = f"by a reward model's reward of the responses at temperature 1; of held-out pairs it ranks {accuracy} right"
    return f"{said}: too weak to decide, so there is no verdict" if weak(row) else said
