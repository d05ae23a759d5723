"""Nothing is lost: seals find every damage, and a training is broken in every way, one after the other."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from door import PATIENCE, launch, record, run, start, wait_for_step

from dev.faults.check_runs import damaged, weights
from dev.faults.life import Patient, Undisturbed
from dev.faults.mounts import impossible
from dev.faults.schedule import Fault, Life, plan
from dev.faults.subjects import SUBJECTS, command, make_inputs
from dev.faults.subjects import start as start_marked
from recipes.system.files import SEAL, flaw, remove_leftovers, seal, temporary
from recipes.training.checkpoints import missing

Words = Callable[..., list[str]]
# Each kind once; `make faults` draws many. A killed stage, launcher and Ctrl-C while it trains: test_resume.py.
FAULTS = (
    *(Fault("TERM", "start-up"), Fault("KILL", "tokenising", "any"), Fault("read-only directory")),
    *(Fault("STOP then KILL", "checkpoint", "any"), Fault("damaged checkpoint"), Fault("damaged config")),
    *(Fault("KILL", "last save"), Fault("damaged record"), Fault("damaged cache")),
)


def test_a_seal_finds_every_changed_byte(tmp_path: Path) -> None:
    random = Random(0)
    for file in ("a.bin", "deep/b.bin"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(random.randbytes(50))
    assert flaw(tmp_path) == "it was not written to its end"
    seal(tmp_path)
    assert flaw(tmp_path) is None
    for file in (tmp_path / "a.bin", tmp_path / "deep" / "b.bin"):
        whole = file.read_bytes()
        for place in range(len(whole)):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            assert file.name in str(flaw(tmp_path))
        os.truncate(file, 49)
        assert file.name in str(flaw(tmp_path))
        file.write_bytes(whole)
    (tmp_path / SEAL).write_text("{")
    assert flaw(tmp_path) == f"{SEAL} is damaged"


def test_only_dead_processes_leave_leftovers(tmp_path: Path) -> None:
    ours, theirs = temporary(tmp_path / "a.json"), tmp_path / f"{temporary(tmp_path / 'b.json')}".rsplit(".", 1)[0]
    dead = theirs.with_name(f"{theirs.name}.{2**22 + 1}")  # above the largest process id of Linux
    for file in (ours, dead):
        file.write_text("half")
    remove_leftovers(tmp_path)
    assert ours.exists() and not dead.exists()


def test_what_cannot_be_resumed_is_not_sealed(tmp_path: Path) -> None:
    assert "trainer_state.json" in str(missing(tmp_path, 1))
    (tmp_path / "trainer_state.json").write_text("{}")
    assert "optimizer" in str(missing(tmp_path, 1))
    for file in ("optimizer.pt", "scheduler.pt"):
        (tmp_path / file).write_bytes(b"")
    assert "random states" in str(missing(tmp_path, 1))
    (tmp_path / "rng_state.pth").write_bytes(b"")
    assert "cannot be read" in str(missing(tmp_path, 1))


def test_a_signal_saves_a_checkpoint_on_every_process_and_a_resume_counts_no_pair_twice(
    words: Words, tmp_path: Path
) -> None:
    """SIGTERM to one rank stops both after the same update, where no checkpoint was due. 27 pairs do not divide: three
    are left for the last update of an epoch, and Accelerate fills them up, from elsewhere in an epoch that is resumed.
    """
    options = ["pipeline=orpo", "batch_size=8", "hardware.processes=2", "dataset.train_rows=27"]
    options += ["orpo.num_train_epochs=20", "orpo.save_steps=1000", "orpo.learning_rate=1e-3"]
    process = start(*words(tmp_path, *options))
    directory = wait_for_step(tmp_path, 3, process)
    os.kill(rank(1, directory), signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    (checkpoint,) = directory.glob("checkpoint-*")
    assert flaw(checkpoint) is None and len(list(checkpoint.glob("rng_state*.pth"))) == 2
    launch(*words(tmp_path, *options))
    found = record(directory)
    assert found["updates"] == 20 * 4 and found["pairs"] == 20 * 27


def rank(number: int, directory: Path) -> int:
    """The process of one rank of the training in a stage directory."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            ours = (entry / "fd" / "1").readlink() == directory / "log.txt"
            if ours and f"\0LOCAL_RANK={number}\0".encode() in (entry / "environ").read_bytes():
                return int(entry.name)
    raise AssertionError(f"no rank {number} in {directory}")


def test_the_harness_sees_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"loss": NaN}')
    (tmp_path / ".model.partial").mkdir()
    (tmp_path / "b.jsonl").write_text('{"loss": 1.0}\n{"lo')
    (tmp_path / "checkpoint-3").mkdir()
    assert len(list(damaged(tmp_path))) == 4


def test_the_plan_has_as_many_kills_as_asked_for_and_is_the_same_every_time() -> None:
    lives = plan(200, 0, list(SUBJECTS))
    faults = [fault for life in lives for fault in life.faults]
    assert sum(fault.kind in ("KILL", "TERM", "STOP then KILL") for fault in faults) == 200
    assert lives == plan(200, 0, list(SUBJECTS)) != plan(200, 1, list(SUBJECTS))
    assert {fault.moment for fault in faults} >= {"start-up", "training", "last save", "evaluation", "table"}


def test_a_directory_of_others_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    said = run([sys.executable, "-m", "dev.faults", "--kills", "1", "--work", str(tmp_path)], 1)
    assert "has other files" in said and (tmp_path / "thesis.txt").exists()


def test_every_kind_of_fault_is_recovered_from(tmp_path: Path) -> None:
    (tmp_path / "inputs").mkdir()
    make_inputs(tmp_path / "inputs")
    runs = tmp_path / "undisturbed"
    words = command("orpo", tmp_path / "inputs", runs)
    assert start_marked(words, tmp_path / "undisturbed.txt", "undisturbed").wait() == 0
    happened: list[Fault] = []
    faults = tuple(fault for fault in FAULTS if fault.kind != "read-only directory" or not impossible())
    Patient(Life(0, "orpo", faults), tmp_path, Undisturbed(weights(runs), 0), seed=0).live(happened.append)
    assert len(happened) == len(faults)
