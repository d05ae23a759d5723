"""Every pipeline of a setting against every other: the matrix of win rates, and a test for each pair."""

from itertools import groupby

from eval.results.deciding import compared_by
from eval.results.metrics import WIN, percent
from eval.results.row import Row
from eval.results.rows import NAMES, arranged
from eval.results.statistics import ABSENT, SIGN_TEST, T_TEST, Comparison

TESTS = {
    SIGN_TEST: "sign-flip test over clusters of prompts (where all clusters count alike the exact sign test)",
    T_TEST: "t test over seeds and clusters of prompts, a tie counting half",
}
HEAD = ("pair", "compared by", "won", "tied", "lost", "p", "p after Holm", "verdict")


def matrices(rows: list[Row]) -> list[tuple[str, list[list[str]]]]:
    """Return each setting's win rates of row over column, head first, if it has at least two pipelines."""
    found = []
    for setting, group in groupby(rows, lambda row: row.setting):
        compared = [row for row in arranged(list(group)) if row.against.get(WIN)]
        if compared:
            head = [f"row over column {setting}".strip(), *(NAMES.get(row.pipeline, row.pipeline) for row in compared)]
            cells = [[cell(row.against[WIN].get(column.pipeline)) for column in compared] for row in compared]
            lines = [[name, *line] for name, line in zip(head[1:], cells, strict=True)]
            found.append((f"Win rates {setting}".strip(), [head, *lines]))
    return found


def cell(found: Comparison | None) -> str:
    """Return a win rate, with its verdict and the p behind it if there was to be one."""
    if found is not None and not found.asked:
        return percent(found.rate.mean)
    return ABSENT if found is None else f"{percent(found.rate.mean)} {found.verdict}, {probability(found.adjusted)}"


def tests(rows: list[Row]) -> list[list[str]]:
    """Return one line per outcome and pair, head first; each pair once, from its first pipeline's side."""
    lines = [list[str](HEAD)]
    for outcome in dict.fromkeys(name for row in rows for name in row.against):
        for place, row in enumerate(rows):
            rivals = row.against.get(outcome, {})
            later = [other for other in rows[place + 1 :] if other.setting == row.setting and other.pipeline in rivals]
            asked = [(other, rivals[other.pipeline]) for other in later if rivals[other.pipeline].asked]
            lines += [line(row, other, outcome, found) for other, found in asked]
    return lines


def line(row: Row, other: Row, outcome: str, found: Comparison) -> list[str]:
    """Return one pair's line: shares of the prompts (over the seeds), tests, and the verdict on the first pipeline."""
    pair = (
        f"{NAMES.get(row.pipeline, row.pipeline)} : {NAMES.get(other.pipeline, other.pipeline)} {row.setting}".strip()
    )
    shares = [percent(value) for value in (found.won, found.tied, found.lost)]
    return [
        pair,
        compared_by(row, outcome),
        *shares,
        probability(found.p),
        probability(found.adjusted),
        found.verdict,
    ]


def probability(value: float) -> str:
    """Return a p rounded to its significant digits."""
    digits = 3 if round(value, 3) != 0.05 else 4  # must show on which side of 5% it is
    return "p < 0.001" if value < 0.001 else f"p = {value:.{digits}f}"


def explain(rows: list[Row]) -> list[str]:
    """Return notes on what was tested, over how many pairs p was adjusted, and which difference is detectable."""
    compared = [one for row in rows for one in row.against.get(WIN, {}).values()]
    found = [one for one in compared if one.asked]
    if not found:
        return []
    chosen = "Only they were asked for (compare_with=): other win rates have no verdict."
    sizes = [one.detectable for one in found]
    margin = 100 * found[0].margin
    return [
        f"Verdicts: p below 5% after Holm over the {max(one.family for one in found)} pairs of a setting and outcome; "
        f"{' or '.join(said for test, said in TESTS.items() if test in {one.test for one in found})}. "
        f"Practically the same: surely between {50 - margin:.0f}% and {50 + margin:.0f}% (two one-sided tests).",
        f"Smallest win rate found with probability 80%, after Holm: {smallest(sizes)}.",
        *([chosen] if len(found) < len(compared) else []),
    ]


def smallest(sizes: list[float | None]) -> str:
    """Return the win rate that lies one half and the largest of `sizes` above zero; of some pairs there is none."""
    known = [size for size in sizes if size is not None]
    if not known:
        return "none, with so few prompts or seeds"
    found = f"{100 * (0.5 + max(known)):.1f}% (or its mirror image)"
    return f"{found}; for some pairs none, with so few prompts or seeds" if None in sizes else found
