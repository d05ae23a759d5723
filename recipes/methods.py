"""The table of methods: what launcher, records, tables and figures need to know about each; no PyTorch or TRL.

A new method is its recipe, a row here, `conf/stage/NAME.yaml` and a pipeline that trains it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

ENGINES = ("packed", "stock")  # our forward pass, and TRL's


@dataclass(frozen=True)
class Method:
    """One way to train a stage; its recipe is `recipes/NAME.py`."""

    label: str  # in tables and figures
    config: str  # module:class of its options
    about: str  # in a model card: "trained by …"
    # Responses that pass through the policy and through the reference model, per pair and epoch (section 7.3 of the
    # ORPO paper); None: the trainer's options decide.
    policy_passes: int | None
    reference_passes: int = 0
    probe_passes: int = 0  # through the policy too, without learning from them: KTO's reference point
    packs: bool = True  # whether it has `engine=packed`
    fused: bool = True  # whether TRL's own trainer computes log-probs without the logits of a whole row
    pairs: bool = True  # whether its forward pass reads both responses
    unpaired: tuple[str, ...] = ()  # which responses without a partner it trains on, of "chosen" and "rejected"
    answers: bool = True  # whether it trains a language model; a reward model generates nothing
    # Options -> what its NLL term covers: "full", chosen dialogue; "completion", chosen response; None: there is none.
    nll: Callable[[dict[str, Any]], str | None] = lambda options: None
    logged_log_probs: Literal["sum", "mean"] | None = None  # over a response's tokens; None: it logs none
    loss: str = "loss"  # in figures: the loss and its unit
    rival: str | None = None  # the pipeline that the table compares it with, besides SFT
    # The method whose forward passes it shares: tests/test_compatibility.py then trains it only packed, with all
    # weights or LoRA, and leaves the other combinations to that method.
    forward_of: str | None = None
    colour: str = "#808080"  # in figures; must be readable on light and dark pages, see `eval.pages.plots`
    line: Any = "-"  # Matplotlib's line style and hatch, to distinguish it without colors
    hatch: str = ""

    @property
    def module(self) -> str:
        """The recipe."""
        return self.config.partition(":")[0]

    def config_class(self) -> Any:
        """Import the recipe, and with it TRL, and return the class of its options."""
        return getattr(import_module(self.module), self.config.partition(":")[2])


METHODS = {
    "sft": Method(
        label="SFT",
        config="recipes.sft:SFTConfig",
        about="supervised fine-tuning on the chosen responses of preference pairs",
        policy_passes=1,
        pairs=False,
        unpaired=("chosen",),
        nll=lambda options: "completion" if options["completion_only_loss"] else "full",
        loss="nats per\nresponse token",
        colour="#c8701e",
        line="--",
    ),
    "dpo": Method(
        label="DPO",
        config="recipes.dpo:DPOConfig",
        about="DPO ([Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)) on preference pairs",
        policy_passes=2,
        reference_passes=2,
        nll=lambda options: "completion" if "sft" in options["loss_type"] else None,
        logged_log_probs="sum",
        loss="loss\nper pair",
        rival="orpo",
        colour="#2f86c8",
        hatch="//",
    ),
    "orpo": Method(
        label="ORPO",
        config="recipes.orpo:ORPOConfig",
        about="ORPO ([Hong, Lee & Thorne 2024](https://arxiv.org/abs/2403.07691)) on preference pairs, in one stage",
        policy_passes=2,
        fused=False,
        nll=lambda options: options["nll_span"],
        logged_log_probs="mean",
        loss="likelihood\n+ λ · odds ratio",
        rival="dpo",
        colour="#129573",
        line="-.",
        hatch="\\\\",
    ),
    "cpo": Method(
        label="CPO",
        config="recipes.cpo:CPOConfig",
        about="CPO ([Xu et al. 2024](https://arxiv.org/abs/2401.08417)) on preference pairs",
        policy_passes=2,
        fused=False,
        nll=lambda options: "completion" if options["cpo_alpha"] else None,
        logged_log_probs="sum",
        loss="loss\nper pair",
        rival="dpo",
        forward_of="orpo",
        colour="#8d6fd0",
        line=(0, (3, 1, 1, 1)),
        hatch="++",
    ),
    "simpo": Method(
        label="SimPO",
        config="recipes.simpo:SimPOConfig",
        about="SimPO ([Meng, Xia & Chen 2024](https://arxiv.org/abs/2405.14734)) on preference pairs",
        policy_passes=2,
        fused=False,
        nll=lambda options: "completion" if options["cpo_alpha"] else None,
        logged_log_probs="mean",
        loss="loss\nper pair",
        rival="dpo",
        forward_of="orpo",
        colour="#8a7d1f",
        line=(0, (1, 1)),
        hatch="oo",
    ),
    "kto": Method(
        label="KTO",
        config="recipes.kto:KTOConfig",
        about="KTO ([Ethayarajh et al. 2024](https://arxiv.org/abs/2402.01306)) on good and bad responses",
        policy_passes=2,
        reference_passes=4,
        probe_passes=2,
        unpaired=("chosen", "rejected"),
        logged_log_probs="sum",
        loss="loss\nper response",
        rival="dpo",
        forward_of="dpo",
        colour="#cf5050",
        line=(0, (4, 2)),
        hatch="--",
    ),
    "reward": Method(
        label="RM",
        config="recipes.reward:RewardConfig",
        about="a reward model (Bradley-Terry) on preference pairs",
        policy_passes=2,
        answers=False,
        hatch="..",
    ),
    "rloo": Method(
        label="RLOO",
        config="recipes.rloo:RLOOConfig",
        about="RLOO ([Ahmadian et al. 2024](https://arxiv.org/abs/2402.14740)) against a reward model",
        policy_passes=None,
        packs=False,
        pairs=False,
        colour="#bd5f9a",
        line=(0, (5, 1, 1, 1, 1, 1)),
        hatch="xx",
    ),
}
PACKED = tuple(name for name, method in METHODS.items() if method.packs)


def stock_everywhere() -> str:
    """Return the words of a command line that train every method with TRL's own forward pass."""
    return " ".join(f"{name}.engine=stock" for name in PACKED)
