"""Options that fit a model's size, for a model that has not been tuned yet; each with its source."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rates:
    """Peak learning rates of full fine-tuning, and ORPO's lambda."""

    below: float  # parameters
    sft: float
    dpo: float
    orpo: float
    weight: float  # the paper's lambda, TRL's orpo.beta
    source: str

    def __str__(self) -> str:
        sft, dpo, orpo = (f"{rate:.0e}".replace("e-0", "e-") for rate in (self.sft, self.dpo, self.orpo))
        return f"SFT {sft}, DPO, CPO, SimPO and KTO {dpo}, ORPO {orpo} with lambda {self.weight:g}"


AUTHORS = "ORPO: its authors' advice for small models (xfactlab/orpo issue 5: lambda 0.5 to 1.0, 5e-6 to 2e-5)"
PAPER = "ORPO: the paper's 8e-6 (appendix C)"
SMOLLM2 = "DPO: alignment-handbook's smollm2"
ZEPHYR = "SFT and DPO: alignment-handbook's zephyr-7b-beta"
TABLE = (
    Rates(4e8, 3e-4, 1e-6, 2e-5, 1.0, f"SFT: SmolLM-Instruct's cards; {SMOLLM2}; {AUTHORS}"),
    Rates(2e9, 2e-5, 1e-6, 2e-5, 0.5, f"SFT: TRL's default; {SMOLLM2}; {AUTHORS}"),
    Rates(6e9, 2e-5, 5e-7, 8e-6, 0.25, f"{ZEPHYR}; {PAPER}, lambda as for Phi-2 (section 6.1)"),
    Rates(float("inf"), 2e-5, 5e-7, 8e-6, 0.1, f"{ZEPHYR}; {PAPER}, lambda as for Mistral-7B (section 6.1)"),
)
# Methods after SFT, at DPO's rate, with their papers' beta: SimPO's authors searched the same range for all of them.
AFTER_SFT = {"dpo": 0.1, "cpo": 0.1, "simpo": 2.0, "kto": 0.1}
MIDDLE = 3e9  # taken for the size of a model whose parameters cannot be counted


def rates(parameters: int | None) -> Rates:
    """Return the options for a model of so many parameters."""
    return next(row for row in TABLE if (parameters or MIDDLE) < row.below)


def options(row: Rates) -> dict[str, dict[str, Any]]:
    """Return them as a profile has them; one epoch each, as in those recipes and the paper's SFT."""
    return {
        "sft": {"learning_rate": row.sft, "num_train_epochs": 1},
        **{name: {"learning_rate": row.dpo, "num_train_epochs": 1, "beta": beta} for name, beta in AFTER_SFT.items()},
        "orpo": {"learning_rate": row.orpo, "num_train_epochs": 1, "beta": row.weight},
    }
