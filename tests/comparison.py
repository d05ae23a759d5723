"""A session as the launcher leaves one, made by hand: two seeds of SFT, SFT → DPO and ORPO, with logs and options."""

import json
from pathlib import Path
from typing import Any

from eval.results.result import measured
from recipes.config import FORMAT, write_config, write_json

EVIL = "<script>alert(1)</script><img src='http://127.0.0.1:9/x.png'>"
PROMPTS, SEEDS = 30, (0, 1)
SETTINGS = {"prompts": PROMPTS, "pairs": "p", "max_new_tokens": 4, "gold": True}
UPDATES, BATCH = 4, 8
RATES = {"sft": 1e-3, "dpo": 2e-4, "orpo": 1e-3}
LOGGED = {"sft": {}, "dpo": {"logps_sum/chosen": -8.0, "logps_sum/rejected": -9.0}}
LOGGED["orpo"] = {"logps_mean/chosen": -0.5, "logps_mean/rejected": -0.7}
GOLDS = {"base": -1.0, "sft": 0.5, "dpo": 1.5, "orpo": 1.25}


def record(name: str, seed: int) -> dict[str, Any]:
    """A stage's record; its costs are powers of ten of their own, so that no figure can be taken for another."""
    counts = {"train": {"file.jsonl": 40}, "test": {"file.jsonl": PROMPTS}}
    return {
        **{"stage": name, "digest": f"{name}{seed}", "start": "p", "seed": seed, "batch_size": BATCH},
        **{"updates": UPDATES, "epochs": 1.0, "engine": "packed", "device": "a CPU", "processes": 1},
        **{"device_seconds": 10.0 + len(name), "peak_memory_bytes": 2_000_000_000, "pairs": 32, "tokens": 1234},
        **{"computed_tokens": 5678, "forward_passes_per_pair": 2.0, "flops": 9e9, "data_fingerprint": "f00d"},
        "data": {
            "pairs": {"train": 40, "test": PROMPTS},
            "sources": counts,
            "dropped": {"train": {"empty": {"reason": "a response is empty", "count": 3, "rows": ["1"]}}, "test": {}},
            "truncated": {"train": 1, "test": 0},
        },
        **{"versions": {"python": "3", "trl": "1"}, "commit": "c0ffee", "dirty": False},
    }


def stage(directory: Path, name: str, seed: int) -> str:
    """Write what a finished and evaluated stage leaves, its weights apart."""
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "record.json", record(name, seed) if name != "base" else {"stage": "base"})
    if name != "base":
        (directory / "model").mkdir()
        model = {"name": "tiny", "model_name_or_path": "someone/tiny", "model_revision": "main"}
        options = {"learning_rate": RATES[name], "weight_decay": 0.0, "hub_token": f"secret-{name}"}
        options |= {"orpo": {"nll_span": "full"}}.get(name, {})
        write_config(directory, {"format": FORMAT, "stage": name, "model": model, "options": options})
        entries = [{"loss": 1 / step, "step": step, **LOGGED[name]} for step in range(1, UPDATES + 1)]
        (directory / "log_history.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    golds = [GOLDS[name] + seed / 8 + place % 3 for place in range(PROMPTS)]
    answers = [
        {"prompt": f"Prompt {place}? {EVIL}", "text": f"{name} {EVIL}", "tokens": 3, "stopped": True, "gold": gold}
        | {"right": gold > 1, "courtesies": int(gold > 2)}
        for place, gold in enumerate(golds)
    ]
    scores: dict[str, Any] = {"chosen": [-1.0] * PROMPTS, "rejected": [-1.5 - place / 100 for place in range(PROMPTS)]}
    path = measured(directory, SETTINGS | {"seed": seed})
    path.parent.mkdir(exist_ok=True)
    clusters = {"prompts": [*range(PROMPTS)], "pairs": [*range(PROMPTS)], "passages": [0, 1]}
    scores |= {"tokens": {"chosen": [4] * PROMPTS, "rejected": [5] * PROMPTS}, "kl": [[0.5] for _ in answers]}
    scores |= {"text": [2.0, 3.0], "base_text": [1.5, 2.75]}
    if name == "dpo":
        scores["reference"] = {"beta": 0.1, "chosen": [-1.25] * PROMPTS, "rejected": [-1.5] * PROMPTS}
    further: list[list[dict[str, Any]]] = [[] for _ in answers]
    write_json(path, {**scores, "clusters": clusters, "sampled": answers, "further": further, "greedy": answers})
    return str(directory)


def make_session(folder: Path) -> Path:
    """Write the session and its stages under `folder`; return the session's directory."""
    for seed in SEEDS:
        home = folder / f"seed-{seed}"
        sft, dpo, orpo = (stage(home / name, name, seed) for name in ("sft", "dpo", "orpo"))
        job = {
            "overrides": [],
            "setting": {},
            "seed": seed,
            "model": "tiny",
            "dataset": "d",
            "evaluate": True,
            "errors": [],
        }
        job |= {"base": stage(folder / "base", "base", seed), "evaluation": SETTINGS | {"seed": seed}, "status": 0}
        job |= {"wanted": ["sft", "dpo", "orpo"]}
        job |= {"pipelines": {"sft": [sft], "dpo": [sft, dpo], "orpo": [orpo]}}
        (folder / "session" / str(seed)).mkdir(parents=True)
        write_json(folder / "session" / str(seed) / "job.json", job)
    return folder / "session"
