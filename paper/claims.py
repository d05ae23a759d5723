"""The claims of the ORPO paper and about it, each with a session's measurement, its interval and a verdict.

    python -m paper.claims [SESSION …]

Prints them, and writes claims.md beside the session's table. Table 4 needs `python -m eval.diversity` first, figure 8 a
session with `orpo.ratio=odds,probability`, figure 9 one with several `orpo.beta`. A claim is supported or contradicted
if its whole 95 % interval (unadjusted) or its test says so, else it is not shown at this scale. What follows from a
definition or from the configured epochs, or needs a GPU, is not testable here.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from eval.commands.cli import NoOptions, run
from eval.results.cells import markdown
from eval.results.metrics import FLOPS, MEMORY, SECONDS
from eval.results.row import Row
from eval.results.rows import with_bases
from eval.results.session import sessions
from eval.results.setting import Setting
from eval.results.statistics import ABSENT
from eval.results.table import rows_of
from paper.across import lambdas, probability_ratio, sharper, sizes
from paper.evidence import PASSES_PER_EPOCH, Finding, Rows, one_stage, saving, shift, trend, varied, wins
from recipes.config import write_text
from recipes.system.commands import output

HEAD = ["claim", "where", "measured", "95% interval", "verdict"]


@dataclass(frozen=True)
class Claim:
    """A sentence, its source, and its measurement; None if the session lacks the data."""

    text: str
    where: str
    measure: Callable[[Any], Finding | None]  # from one setting's rows, or from the rows of all settings


CLAIMS = [
    Claim("SFT raises the probability of rejected responses too", "figure 3", shift("rejected", "sft", "base", 1)),
    Claim("SFT raises the probability of chosen responses", "figure 3", shift("chosen", "sft", "base", 1)),
    Claim("ORPO pushes rejected responses below SFT's level", "figure 7", shift("rejected", "orpo", "sft", -1)),
    Claim("ORPO pushes rejected responses below the base's level", "figure 7", shift("rejected", "orpo", "base", -1)),
    Claim("ORPO raises chosen responses, as SFT does", "figure 7", shift("chosen", "orpo", "base", 1)),
    Claim("ORPO raises chosen responses no less than SFT", "figure 7", shift("chosen", "orpo", "sft", 1)),
    Claim("the log-odds ratio rises in ORPO's training", "figure 7", trend("log_odds_chosen", "orpo", 1)),
    Claim("ORPO needs no SFT stage and no reference model", "section 4", one_stage),
    Claim("ORPO needs half of DPO's forward passes", "section 7.3", saving(PASSES_PER_EPOCH, "dpo", counted=True)),
    Claim("ORPO's whole training saves computation", "popular account", saving(FLOPS, "dpo")),
    Claim("ORPO's whole training saves memory", "section 7.3", saving(MEMORY, "dpo")),
    Claim("ORPO's whole training saves time", "popular account", saving(SECONDS, "dpo")),
    Claim("ORPO's responses beat SFT's", "tables 1 to 3", wins("sft")),
    Claim("ORPO's responses beat SFT and DPO's", "table 1; half of tables 2 and 3", wins("dpo")),
    Claim("ORPO's responses beat RLHF's", "tables 2 and 3", wins("rlhf")),
    Claim("ORPO's responses vary less per prompt than DPO's, and more across prompts", "table 4", varied),
]
ACROSS = [
    Claim("a probability ratio is sharper than an odds ratio", "figure 6", sharper),
    Claim("ORPO's advantage over DPO grows with the model", "tables 2 and 3", sizes),
    Claim("a larger λ widens the margin and lowers the chosen responses", "figure 9", lambdas),
    Claim(
        "a loss of probability ratios lowers rejected responses more than one of odds", "figure 8", probability_ratio
    ),
]


def write_claims(session: Path) -> None:
    """Print every claim with the session's measurement, and write claims.md beside the session's jobs.

    Raises:
        UserError: the session trained nothing, or was not evaluated.
    """
    settings = by_setting(rows_of(session))
    parts: list[str] = []
    for setting, rows in settings:
        parts += told(f"Of {setting or 'the session'}", [line(claim, claim.measure(rows)) for claim in CLAIMS])
    parts += told("Across settings", [line(claim, claim.measure([rows for _, rows in settings])) for claim in ACROSS])
    note = "95% intervals and verdicts are not adjusted over claims; win rates are judged by p after Holm (table.md)."
    write_text(
        session / "claims.md", "\n".join(["# The paper's claims, as measured by the session", "", *parts, note, ""])
    )
    output.print(f"claims: {session}/claims.md", soft_wrap=True)


def by_setting(rows: list[Row]) -> list[tuple[Setting, Rows]]:
    """Return each setting with pipeline -> row, including its base model."""
    return [(setting, {row.pipeline: row for row in group}) for setting, group in with_bases(rows)]


def told(title: str, lines: list[list[str]]) -> list[str]:
    """Print one table of claims, and return it in Markdown."""
    table = Table(*HEAD, title=title, title_justify="left")
    for cells in lines:
        table.add_row(*cells)
    output.print(table)
    return [f"## {title}", "", *markdown([HEAD, *lines]), ""]


def line(claim: Claim, found: Finding | None) -> list[str]:
    """Return a claim's line of the table."""
    said = (
        [found.measured, found.interval, found.verdict] if found else ["not measured in this session", ABSENT, ABSENT]
    )
    return [claim.text, claim.where, *said]


def main(names: list[str], _: NoOptions) -> None:
    """Write the claims of the named sessions, or of the newest."""
    for session in sessions(names):
        write_claims(session)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, NoOptions, main))
