"""Which method, tuning, strategy, precision and engine work together: one table, enforced and printed.

`python -m launch.config.compatibility > docs/compatibility.md` prints the page.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import product
from typing import Any

from launch.config.compatibility_text import HEAD, TAIL
from launch.config.parallelism import SHARDED, STRATEGIES
from launch.config.schema import Config
from recipes.config import UserError
from recipes.methods import METHODS

ZERO = ("zero2", "zero3")


@dataclass(frozen=True)
class Cell:
    """One way to train."""

    method: str  # of recipes.methods
    tuning: str  # full, lora or qlora
    strategy: str  # one (a single process), ddp, fsdp2, zero2 or zero3
    offload: bool
    precision: str  # fp32 or bf16
    engine: str  # packed or stock


VALUES: dict[str, tuple[Any, ...]] = {
    "method": tuple(METHODS),
    "tuning": ("full", "lora", "qlora"),
    "strategy": ("one", *STRATEGIES),
    "offload": (False, True),
    "precision": ("bf16", "fp32"),
    "engine": ("packed", "stock"),
}


def from_logits(cell: Cell) -> bool:
    """Whether the loss is computed from the logits that the model returns."""
    return cell.engine == "stock" and not METHODS[cell.method].fused


@dataclass(frozen=True)
class Rule:
    """Reject cells that cannot train, or would train something else than they say; name what works instead."""

    forbids: Callable[[Cell], bool]
    reason: str
    use: dict[str, Any]  # field -> value: the change that costs the user least


RULES = (
    Rule(
        lambda cell: cell.offload and cell.strategy not in SHARDED,
        "only fsdp2, zero2 and zero3 can offload to CPU memory",
        {"offload": False},
    ),
    Rule(
        lambda cell: cell.tuning == "qlora" and cell.strategy == "fsdp2",
        "FSDP2 does not shard 4-bit weights, and a checkpoint of them cannot be resumed",
        {"strategy": "ddp", "offload": False},
    ),
    Rule(
        lambda cell: cell.tuning == "qlora" and cell.strategy == "zero3",
        "ZeRO-3 shards weights while loading them, and 4-bit weights are loaded whole",
        {"strategy": "ddp", "offload": False},
    ),
    Rule(
        lambda cell: cell.tuning == "qlora" and cell.offload,
        "4-bit weights cannot be moved off the device that computes with them",
        {"offload": False},
    ),
    Rule(
        lambda cell: cell.method == "reward" and cell.strategy == "zero3",
        "its head starts at zero, which cannot be set once ZeRO-3 has sharded the weights",
        {"strategy": "fsdp2"},
    ),
    Rule(
        lambda cell: cell.method == "rloo" and cell.strategy == "zero3",
        "ZeRO-3 would shard the reward model too, and nothing gathers its weights to score responses",
        {"strategy": "fsdp2"},
    ),
    Rule(
        lambda cell: from_logits(cell) and cell.precision == "bf16" and cell.strategy in ZERO,
        "DeepSpeed computes the whole model in bf16, and TRL's trainer would compute its loss from bf16 logits",
        {"engine": "packed"},
    ),
)


def possible(cell: Cell) -> bool:
    """Whether the cell exists: some methods have only TRL's own engine."""
    return cell.engine == "stock" or METHODS[cell.method].packs


def refusal(cell: Cell) -> Rule | None:
    """Return the first rule that a cell breaks."""
    return next((rule for rule in RULES if rule.forbids(cell)), None)


def tested(cell: Cell) -> bool:
    """Whether tests/test_compatibility.py trains the cell: it trains all that a CPU can run, in float32.

    FSDP2 offloads only from a GPU. Methods whose forward passes are another's train packed, all weights or LoRA.
    """
    usual = cell.tuning != "qlora" and (cell.engine, cell.offload) == ("packed", False)
    return (
        (usual or METHODS[cell.method].forward_of is None)
        and possible(cell)
        and refusal(cell) is None
        and cell.precision == "fp32"
        and not (cell.strategy == "fsdp2" and cell.offload)
    )


@cache
def cells() -> list[Cell]:
    """Return every cell that exists, supported or not."""
    return [cell for values in product(*VALUES.values()) if possible(cell := Cell(*values))]


def nearest(cell: Cell) -> Cell:
    """Return the supported cell that the rules name instead of a rejected one; a supported cell itself."""
    while broken := refusal(cell):
        cell = replace(cell, **broken.use)
    return cell


def changes(cell: Cell, other: Cell) -> list[str]:
    """Return the fields in which two cells differ."""
    return [field.name for field in fields(Cell) if getattr(cell, field.name) != getattr(other, field.name)]


def cell_of(config: Config, stage: str) -> Cell:
    """Return how a resolved configuration would train one of its stages."""
    hardware, options = config.hardware, config.options[stage]
    return Cell(
        method=stage,
        tuning=config.tuning,
        strategy="one" if hardware.processes == 1 else hardware.strategy,
        offload=hardware.offload,
        precision="bf16" if options["bf16"] else "fp32",
        engine=options.get("engine", "stock"),
    )


def refuse_incompatible(config: Config) -> None:
    """Reject a strategy that the hardware profile cannot run, and stages that do not work with the other options.

    Raises:
        UserError: the message gives the reason and the nearest that works.
    """
    hardware = config.hardware
    strategy, processes, nodes = hardware.strategy, hardware.processes, hardware.nodes
    if strategy not in STRATEGIES:
        raise UserError(f"hardware.strategy={strategy}: use one of {', '.join(STRATEGIES)}")
    if nodes < 1 or processes % nodes:
        raise UserError(
            f"hardware.processes={processes} is no multiple of hardware.nodes={nodes}: "
            f"use hardware.processes={max(1, round(processes / max(1, nodes))) * max(1, nodes)}"
        )
    if processes == 1 and strategy in SHARDED:
        raise UserError(
            f"hardware.strategy={strategy} needs at least 2 processes (got 1): "
            "use hardware.strategy=ddp, or raise hardware.processes"
        )
    for stage in sorted(config.stages):
        cell = cell_of(config, stage)
        refuse_cell(cell)
        refuse_dtype(cell, config.model_options["dtype"])


def refuse_dtype(cell: Cell, dtype: str) -> None:
    """Reject adapters on a base whose dtype does not serve.

    In float16 without autocast gradients vanish. ZeRO-3 loads the base in the adapters' dtype, not in its own.

    Raises:
        UserError: the message names the dtype to set.
    """
    held = {"fp32": "float32", "bf16": "bfloat16"}[cell.precision]
    if cell.precision == "fp32" and cell.tuning != "full" and dtype == "float16":
        raise UserError(f"{cell.method} with {described(cell)}: gradients vanish in float16; use model.dtype=float32")
    if cell.strategy == "zero3" and cell.tuning == "lora" and dtype != held:
        raise UserError(
            f"{cell.method} with {described(cell)}: ZeRO-3 would load the base in {held}, not in model.dtype={dtype}: "
            f"use model.dtype={held}"
        )


def refuse_cell(cell: Cell) -> None:
    """Reject a cell that breaks a rule.

    Raises:
        UserError: the message gives the reason and the nearest that works.
    """
    broken = refusal(cell)
    if broken:
        other = nearest(cell)
        words = " ".join(word(other, name) for name in changes(cell, other))
        raise UserError(f"{cell.method} with {described(cell)}: {broken.reason}; use {words}")


def word(cell: Cell, name: str) -> str:
    """Return the option that gives a field its value in `cell`."""
    value = getattr(cell, name)
    return {
        "engine": f"{cell.method}.engine={value}",
        "offload": f"hardware.offload={str(value).lower()}",
        "strategy": f"hardware.strategy={value}",
    }[name]


def described(cell: Cell) -> str:
    """Return a cell in words."""
    parts = [f"tuning={cell.tuning}", "one process" if cell.strategy == "one" else f"hardware.strategy={cell.strategy}"]
    parts += ["hardware.offload=true"] if cell.offload else []
    return ", ".join([*parts, cell.precision, f"engine={cell.engine}"])


def page() -> str:
    """Return the table as Markdown."""
    columns = [(strategy, False) for strategy in ("one", *STRATEGIES)] + [(strategy, True) for strategy in SHARDED]
    names = [("one process" if name == "one" else name) + (" + offload" if off else "") for name, off in columns]
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(columns) + 1) + "|"]
    for method, engine, kind in product(VALUES["method"], VALUES["engine"], VALUES["tuning"]):
        row = [Cell(method, kind, strategy, offload, "fp32", engine) for strategy, offload in columns]
        if possible(row[0]):
            lines.append(f"| {method}, {kind}, {engine} | {' | '.join(map(status, row))} |")
    reasons = [f"{number}. {rule.reason[0].upper()}{rule.reason[1:]}." for number, rule in enumerate(RULES, 1)]
    return "\n".join([HEAD, *lines, "", *reasons, TAIL.rstrip("\n"), ""])


def status(cell: Cell) -> str:
    """Return a cell's entry in the table: its status in float32, and in bf16 where only that is rejected."""
    broken = refusal(cell)
    if broken:
        return str(RULES.index(broken) + 1)
    half = refusal(replace(cell, precision="bf16"))
    ran = "**runs**" if cell.method == "rloo" else "**tested**"
    return (ran if tested(cell) else "*composed*") + (f", bf16: {RULES.index(half) + 1}" if half else "")


if __name__ == "__main__":
    print(page(), end="")
