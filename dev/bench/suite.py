"""The measurements of `make bench`, part by part."""

import argparse
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dev.bench.limits import refuse_long
from dev.bench.measure import Case, agreement, matmul_rate, measure
from dev.bench.pipelines import measure_pipelines
from dev.bench.predict import predict
from dev.bench.report import environment, publish, summary
from dev.bench.shapes import MADE
from dev.bench.tokenise import measure_tokenisation
from dev.bench.workload import even, pairs_of
from launch.config.machine import first_device
from recipes.config import UserError
from recipes.engine.packing import Pair
from recipes.system.commands import output as console

ENGINES = ("stock", "packed")


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in its own process.

    Raises:
        UserError: the process was killed.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = first_device()  # a trainer would split its batches over several
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dev.bench.measure"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise UserError(
                "a measurement's process was killed, probably out of memory: use smaller --batch-sizes or --max-length"
            ) from None


def cases(given: argparse.Namespace, gpu: bool) -> list[Case]:
    """Return the settings in the order of measurement; the engines take turns for each."""
    models = given.models or (["21m", "phi-3-mini"] if gpu else ["21m"])
    middle = given.batch_sizes[len(given.batch_sizes) // 2]
    sizes = [128 * 2**power for power in range(8) if 128 * 2**power <= longest(given, gpu)]
    settings = [
        (lengths, tuning, batch_size)
        for tuning in given.tunings
        for lengths in given.lengths
        for batch_size in (given.batch_sizes if tuning == "full" else [middle])
    ]
    settings += [(even(tokens), given.tunings[0], middle) for tokens in (sizes if given.even is None else given.even)]
    rest: dict[str, Any] = {"half": gpu, "checkpointing": gpu}
    return [Case(model, *of, "", *((4, 2) if gpu else (1, 0)), **rest) for model in models for of in settings]


def refuse_pairs(given: argparse.Namespace, gpu: bool) -> None:
    """Reject a setting with too few pairs, before the first is measured.

    Raises:
        UserError: a setting has too few pairs; the message names it.
    """
    refuse_long(given.even, longest(given, gpu))
    for case in cases(given, gpu) if {"engines", "agreement"} & set(given.parts) else []:
        pairs_for(given, case, pairs_of_repeat(case) * given.repeats if "engines" in given.parts else 4, gpu)


def pairs_of_repeat(case: Case) -> int:
    """Return how many pairs a repetition of a setting trains on."""
    return case.batch_size * (case.updates + case.warmup)


def measure_engines(given: argparse.Namespace, gpu: bool) -> list[dict[str, Any]]:
    """Measure every setting with both engines; every repetition has its own pairs, the same for both."""
    results = []
    for case in cases(given, gpu):
        each = pairs_of_repeat(case)
        pairs = pairs_for(given, case, each * given.repeats, gpu)
        repetitions: dict[str, list[dict[str, Any]]] = {engine: [] for engine in ENGINES}
        for repeat in range(given.repeats):
            own = pairs[repeat * each : (repeat + 1) * each]
            for engine in ENGINES:
                one = Case(**{**asdict(case), "engine": engine})
                predicted = predict(one, own)
                found = alone(measure, one, own) if gpu or predicted < 0.8 * available() else {}
                repetitions[engine].append(found and {**found, "predicted_bytes": predicted})
        results.append({**asdict(case), "max_length": longest(given, gpu), "repetitions": repetitions})
        console.print(summary(results[-1]), soft_wrap=True)
    return results


def available() -> float:
    """Return the free bytes of this machine's memory: the kernel would kill what needs more."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) * 1024.0


def longest(given: argparse.Namespace, gpu: bool) -> int:
    """Return the maximum number of tokens in a dialogue."""
    return given.max_length or (2048 if gpu else 1024)


def pairs_for(given: argparse.Namespace, case: Case, count: int, gpu: bool) -> list[Pair]:
    """Return the pairs of a setting."""
    return pairs_of(case.lengths, count, longest(given, gpu), case.model, given.pairs, given.tokenizer)


def measure_agreement(given: argparse.Namespace, gpu: bool) -> list[dict[str, Any]]:
    """Compare loss and gradients of both engines in float32, on four pairs of each length distribution."""
    results = []
    for case in cases(given, gpu):
        known = {(found["lengths"], found["tuning"]) for found in results}
        if case.model == "phi-3-mini" or case.lengths not in MADE or (case.lengths, case.tuning) in known:
            continue
        found = alone(agreement, case.model, case.tuning, pairs_for(given, case, 4, gpu))
        results.append({"lengths": case.lengths, "tuning": case.tuning, "pairs": 4, **found})
        console.print(
            f"{case.lengths}, {case.tuning}: relative difference of the loss {found['loss']:.1e}, "
            f"of a gradient at most {found['gradient']:.1e}",
            soft_wrap=True,
        )
    return results


def bench(given: argparse.Namespace) -> None:
    """Measure the requested parts, and publish the results at the end.

    Raises:
        UserError: a setting has too few pairs, or a measurement was killed.
    """
    machine = alone(environment)
    gpu = machine["gpu"] is not None
    refuse_pairs(given, gpu)
    if not gpu:
        line = "no GPU: skipped phi-3-mini's shape in bf16, 2048 tokens, allocated memory and MFU"
        console.print(line, soft_wrap=True)
    names = {
        key: value and Path(value).name for key in ("pairs", "tokenizer", "output") for value in [vars(given)[key]]
    }
    results: dict[str, Any] = {"machine": machine, "options": vars(given) | names}  # no local paths
    results["matmul_flops_per_second"] = alone(matmul_rate)
    parts: dict[str, Callable[[], Any]] = {
        "agreement": lambda: measure_agreement(given, gpu),
        "engines": lambda: measure_engines(given, gpu),
        "pipelines": lambda: measure_pipelines(given, console),
        "tokenise": lambda: measure_tokenisation(given, console),
    }
    results |= {name: measured() for name, measured in parts.items() if name in given.parts}
    console.print(f"wrote {publish(results, given.output)}")
