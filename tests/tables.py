"""A comparison made by hand, so that every figure of its table is known."""

import json
from pathlib import Path
from typing import Any

from eval.results.result import measured

SETTINGS = {"prompts": 2, "seed": 0, "pairs": "p", "max_new_tokens": 4, "gold": True}
COST = {"pairs": 5, "tokens": 10, "computed_tokens": 20, "forward_passes_per_pair": 1.0, "flops": 1e3, "epochs": 1.0}


def answer(gold: float) -> dict[str, Any]:
    return dict(prompt="?", text="!", tokens=3, stopped=True, gold=gold, right=gold > 0, courtesies=1)


def stage(directory: Path, name: str, seconds: float, memory: int, golds: list[float] | None, seed: int) -> str:
    directory.mkdir(parents=True, exist_ok=True)
    record = {"stage": name, "device_seconds": seconds, "peak_memory_bytes": memory, **COST}
    (directory / "record.json").write_text(json.dumps(record))
    if golds is not None:
        kept = [answer(gold) for gold in golds]
        result = {"chosen": [-1.0, -2.0], "rejected": [-2.0, -1.0], "sampled": kept, "greedy": kept}
        result |= {"further": [[]] * len(kept), "kl": [[0.5]] * len(kept), "text": [2.0, 3.0], "base_text": [2.0, 2.5]}
        result["clusters"] = {"pairs": [0, 1], "prompts": [*range(len(kept))], "passages": [0, 1]}
        result["tokens"] = {"chosen": [2, 2], "rejected": [2, 2]}
        (path := measured(directory, SETTINGS | {"seed": seed})).parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(result))
    return str(directory)


def make_session(tmp_path: Path) -> Path:
    """Two seeds of a comparison whose costs and rewards are whole numbers; they share the untuned model, as always."""
    for seed in (0, 1):
        home = tmp_path / f"seed-{seed}"
        sft = stage(home / "sft", "sft", 10, 5_000_000_000, [1.0, 1.0], seed)
        dpo = stage(home / "dpo", "dpo", 30, 8_000_000_000, [2.0, 2.0 + seed], seed)
        orpo = stage(home / "orpo", "orpo", 25, 6_000_000_000, [0.0, 1.0], seed)
        base = stage(tmp_path / "base", "base", 0, 0, [-1.0, -1.0], seed)
        job = {"overrides": [], "seed": seed, "model": "m", "dataset": "d", "evaluate": True, "base": base}
        job |= {"evaluation": SETTINGS | {"seed": seed}, "errors": [], "status": 0}
        job |= {"wanted": ["sft", "dpo", "orpo"]}
        job |= {"pipelines": {"sft": [sft], "dpo": [sft, dpo], "orpo": [orpo]}}
        (tmp_path / "session" / str(seed)).mkdir(parents=True)
        (tmp_path / "session" / str(seed) / "job.json").write_text(json.dumps(job))
    return tmp_path / "session"


def edit(session: Path, job: int, **values: Any) -> None:
    path = session / str(job) / "job.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
