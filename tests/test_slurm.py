"""Jobs on a real Slurm, with two pretended GPUs and two pretended nodes: handed over, ended, queued again, finished."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from cluster import DAEMONS, Cluster, find
from door import (
    PATIENCE,
    halted,
    launch,
    record,
    short,
    stages,
    start,
    trainer_of,
    wait_for_step,
    wait_until,
    weights,
)

from launch.config.checks import refuse_launcher
from launch.config.schema import Config
from launch.executors.job import Outcome, keep
from launch.executors.slurm import conclude, demands, lines, name_of, script
from recipes.config import UserError
from recipes.system.errors import CRASH

Words = Callable[..., list[str]]
Compose = Callable[..., Config]
needs_slurm = pytest.mark.skipif(
    not all(map(find, DAEMONS)), reason="no Slurm: apt-get install --no-install-recommends slurm-wlm munge"
)
RESUMED = re.compile(r"resuming from checkpoint-(\d+)")
SLURM = ["launcher=slurm", "launcher.gpus_per_node=1", "launcher.memory_gb=1"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        found.run()
        yield found
    finally:
        found.stop()


def jobs(runs: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(runs.glob("_sessions/*/*/job.json"))]


def test_the_batch_script_asks_for_the_profiles_machine(compose: Compose, tmp_path: Path) -> None:
    """Two nodes of eight GPUs, as `HARDWARE` and `launcher.` say; the same line on each node, which meet on one."""
    machine = ["hardware=8x80gb", "hardware.processes=16", "hardware.nodes=2", "batch_size=512"]
    asked = ["launcher=slurm", "launcher.partition=a", "launcher.account=b", "launcher.qos=c", "launcher.minutes=90"]
    config = compose(*machine, *asked, "launcher.setup=[module load cuda]", "+launcher.sbatch.constraint=d")
    text = script(demands(config.launcher, config.hardware, name_of(config)), tmp_path, jobs=9)
    flags = ["nodes=2", "gpus-per-node=8", "ntasks-per-node=1", "array=0-8%9", "partition=a", "account=b", "qos=c"]
    flags += ["job-name=pocket-orpo", "time=90", "constraint=d", "signal=B:USR2@120", "requeue"]
    assert {f"#SBATCH --{flag}" for flag in flags} <= set(text.splitlines())
    assert text.index("module load cuda") < text.index("exec ")
    *_, says, line = lines([config])
    assert says == "# 1 job; each trains orpo of pocket"
    assert line.startswith("# srun --nodes=2 --ntasks=2 ") and "--nnodes=2 " in line and "--nproc-per-node=8 " in line
    assert "--rdzv-backend=c10d --rdzv-endpoint=<first node>:<port> " in line
    judge = replace(config, pipelines={}, judge="trained")  # of several jobs
    assert name_of(judge) == "pocket-judge" and "each trains the judge of pocket" in lines([judge])[1]
    assert "recipes.reward" in lines([judge])[-1]
    cpu = compose("hardware=cpu", "launcher=slurm")
    assert "gpus_per_node" not in demands(cpu.launcher, cpu.hardware, "x")


def test_what_no_cluster_could_do_is_refused(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = compose("launcher=slurm", "launcher.minutes=2", "hardware=cpu").launcher
    with pytest.raises(UserError, match="minutes must exceed"):
        refuse_launcher(launcher)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="this machine has no sbatch"):
        refuse_launcher(replace(launcher, minutes=60))
    refuse_launcher(replace(launcher, minutes=60, dry_run=True))
    with pytest.raises(UserError, match="name=x: use here or"):
        refuse_launcher(replace(launcher, name="x"))


def test_a_job_that_was_killed_while_it_evaluated_is_no_success(tmp_path: Path) -> None:
    for attempt, status in (({"started": "then"}, CRASH), ({"started": "then", "ended": "now"}, 0)):
        keep(Outcome([], pipelines={"orpo": ["runs/a/b/orpo-1"]}, attempts=[attempt]), tmp_path)
        conclude("1", tmp_path, tmp_path)
        assert json.loads((tmp_path / "job.json").read_text())["status"] == status


def test_a_dry_run_touches_no_session(words: Words, tmp_path: Path) -> None:
    there = tmp_path / "_sessions" / "mine" / "0" / "job.json"
    there.parent.mkdir(parents=True)
    there.write_text("{}")
    printed = launch(*words(tmp_path, "session=mine", "launcher=slurm", "launcher.dry_run=true"))
    assert "#SBATCH" in printed and "nothing was submitted" in printed and there.read_text() == "{}"
    assert [path.name for path in there.parents[2].iterdir()] == ["mine"]
    assert "prints a Slurm job" in launch(*words(tmp_path, "launcher.dry_run=true"), status=2)


@needs_slurm
def test_a_sweep_shares_its_sft_stage_and_never_puts_two_jobs_on_one_gpu(
    cluster: Cluster, words: Words, tmp_path: Path
) -> None:
    sweep = ["pipeline=dpo", "dpo.beta=0.1,0.2,0.3", "evaluate=true", "eval_prompts=4"]
    options = words(tmp_path, *SLURM, *sweep, *short("sft", "dpo"))
    printed = launch("--multirun", *options, SLURM_CONF=cluster.config)
    assert "jobs: 4 done, 0 running, 0 waiting" in printed and [job["errors"] for job in jobs(tmp_path)] == [[]] * 3
    assert [len(stages(tmp_path, f"{stage}-*")) for stage in ("sft", "dpo")] == [1, 3]
    attempts = [attempt for job in jobs(tmp_path) for attempt in job["attempts"]]
    assert len(attempts) == 3 and {attempt["devices"] for attempt in attempts} == {"0", "1"}
    (sft,) = json.loads(next(tmp_path.glob("_sessions/*/shared/1-sft-0/job.json")).read_text())["attempts"]
    assert all(end(sft) <= begin(attempt) for attempt in attempts), "a job held its GPU while the SFT was trained"
    together = [
        (one["devices"], other["devices"])
        for one, other in combinations(attempts, 2)
        if max(map(begin, (one, other))) < min(map(end, (one, other)))
    ]
    assert together and all(one != other for one, other in together)
    (table,) = tmp_path.glob("_sessions/*/table.md")
    assert all(f"dpo.beta=0.{tenth}" in table.read_text() for tenth in range(1, 4))
    assert "Missing" not in table.read_text()


@needs_slurm
def test_sft_and_dpo_are_one_job_with_the_weights_of_here(cluster: Cluster, words: Words, tmp_path: Path) -> None:
    pipeline = ["pipeline=dpo", *short("sft", "dpo")]
    launch(*words(tmp_path / "slurm", *SLURM, *pipeline), SLURM_CONF=cluster.config)
    launch(*words(tmp_path / "here", *pipeline))
    (job,), trained = jobs(tmp_path / "slurm"), stages(tmp_path / "slurm")
    assert job["errors"] == [] and job["pipelines"] == {"dpo": [str(stage) for stage in reversed(trained)]}
    assert [record(stage)["stage"] for stage in trained] == ["dpo", "sft"]
    assert [*map(weights, trained)] == [*map(weights, stages(tmp_path / "here"))]


def begin(attempt: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(attempt["started"])


def end(attempt: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(attempt["ended"])


@needs_slurm
def test_a_job_out_of_time_is_queued_again_and_a_cancelled_one_goes_on_by_the_same_command(
    cluster: Cluster, words: Words, tmp_path: Path
) -> None:
    """By the signal that Slurm sends before the time limit; the limit itself is below."""
    training = ["pipeline=orpo", "orpo.max_steps=200", "orpo.learning_rate=1e-3", "orpo.save_steps=1000"]
    options = words(tmp_path / "slurm", *SLURM, *training)
    process = start(*options, SLURM_CONF=cluster.config)
    directory = wait_for_step(tmp_path / "slurm", 5, process)
    with halted(trainer_of(directory)):
        cluster.ask("scancel", "--batch", "--signal=USR2", *cluster.jobs())
    first = wait_for_resume(directory)
    wait_for_step(tmp_path / "slurm", first + 5, process)
    with halted(trainer_of(directory)):
        cluster.ask("scancel", *cluster.jobs())
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "cancelled or preempted" in printed, printed
    cluster.wait_until_idle()  # no process of the job is left
    second = max(int(path.name.split("-")[1]) for path in directory.glob("checkpoint-*"))
    launch(*options, SLURM_CONF=cluster.config)
    assert RESUMED.findall((directory / "log.txt").read_text()) == [str(first), str(second)]
    assert 5 <= first < second < 200
    assert [len(job["attempts"]) for job in jobs(tmp_path / "slurm")] == [2, 1]
    launch(*words(tmp_path / "here", *training))
    (here,) = stages(tmp_path / "here")
    assert here.name == directory.name and weights(here) == weights(directory)


def wait_for_resume(directory: Path) -> int:
    """Wait until a stage goes on from a checkpoint; return the checkpoint's update."""
    return int(wait_until(lambda: RESUMED.findall((directory / "log.txt").read_text()))[-1])


@needs_slurm
@pytest.mark.slow
def test_a_time_limit_is_survived(cluster: Cluster, words: Words, tmp_path: Path) -> None:
    """The least that Slurm knows is a minute; it warns up to half a minute earlier than it was asked to."""
    limit = ["launcher.minutes=1", "launcher.warning_seconds=1"]
    longer = ["orpo.max_steps=8000", "orpo.learning_rate=1e-5", "orpo.save_steps=100000"]
    launch(*words(tmp_path / "limited", *SLURM, *limit, "pipeline=orpo", *longer), SLURM_CONF=cluster.config)
    launch(*words(tmp_path / "here", "pipeline=orpo", *longer))
    (limited,), (here,) = (stages(tmp_path / name) for name in ("limited", "here"))
    assert len(jobs(tmp_path / "limited")[0]["attempts"]) >= 2 and record(limited)["updates"] == 8000
    assert weights(limited) == weights(here)


@needs_slurm
@pytest.mark.slow
def test_two_nodes_train_as_two_processes_do(cluster: Cluster, words: Words, tmp_path: Path) -> None:
    """One torchrun on each node, which meet on the first; SIGTERM reaches them all, and they agree where to stop."""
    training = ["pipeline=orpo", "hardware.processes=2", "batch_size=8", "orpo.max_steps=100", "orpo.save_steps=1000"]
    options = words(tmp_path / "two", "launcher=slurm", "launcher.memory_gb=1", "hardware.nodes=2", *training)
    process = start(*options, SLURM_CONF=cluster.config)
    directory = wait_for_step(tmp_path / "two", 5, process)
    cluster.ask("scancel", "--batch", "--signal=USR2", *cluster.jobs())
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, printed
    assert len(set(RESUMED.findall((directory / "log.txt").read_text()))) == 1, "both processes from one checkpoint"
    launch(*words(tmp_path / "here", *training))
    assert weights(stages(tmp_path / "here")[0]) == weights(directory)
