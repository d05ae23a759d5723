"""The contract between the packages: a stage is a directory; `config.yaml` in, `model/` and `record.json` out."""

import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recipes.profiles import Model
from recipes.system.errors import UserError as UserError
from recipes.system.files import write_text as write_text

# Increase it when older stage directories can no longer be read or resumed.
FORMAT = 1
# The first words of a stage's error when its device runs out of memory: the launcher may then use smaller
# micro-batches.
OUT_OF_MEMORY = "out of memory"
NEEDS_LESS = f"{OUT_OF_MEMORY}: use a smaller micro-batch (batch_size stays), tuning=lora or tuning=qlora"
# A micro-batch's size and how many make an optimizer step: their product belongs to the experiment.
SPLIT = ("per_device_train_batch_size", "gradient_accumulation_steps")
# The record of a training whose adapters are not yet merged; the launcher renames it afterwards.
UNMERGED = "record.partial.json"
# In a model's directory that was made from a GGUF file: what of, and how its weights were stored.
GGUF = "gguf.json"


class DamagedConfig(UserError):
    """A config.yaml cannot be read."""


@dataclass
class Stage:
    """One training: everything its process needs to know, as read from `config.yaml`."""

    directory: Path
    stage: str
    seed: int
    batch_size: int
    start: str  # the initial checkpoint: a directory or Hub id
    start_revision: str | None
    model: Model
    model_options: dict[str, Any]  # trl.ModelConfig's: dtype, attention, LoRA, quantisation
    pairs: Path  # the prepared rows, see recipes.data.prepare
    processes: int
    options: dict[str, Any]  # the trainer's, under TRL's names
    digest: str
    nodes: int = 1
    split: str = "train"  # the split of the pairs that is trained on
    demonstrations: Path | None = None  # prepared rows that SFT trains on instead of the pairs
    reward_model: str | None = None  # for RLOO: the directory or Hub id of its reward model
    reward_revision: str | None = None

    @classmethod
    def load(cls, directory: Path) -> "Stage":
        """Read `directory`/config.yaml.

        Raises:
            UserError: the file is missing, unreadable, or from another version of this project.
        """
        return cls.of(directory, read_config(directory))

    @classmethod
    def of(cls, directory: Path, config: dict[str, Any]) -> "Stage":
        """Return the stage of a directory from the values of its config.yaml."""
        unread = ("format", "versions", "fsdp")  # fsdp: of older directories; `options` has it too
        values = {name: value for name, value in config.items() if name not in unread}
        paths = {name: Path(values.pop(name)) for name in ("pairs", "demonstrations") if name in values}
        return cls(directory=directory, model=Model(**values.pop("model")), **paths, **values)

    @property
    def output(self) -> Path:
        """The directory of the trained, merged model of a finished stage."""
        return self.directory / "model"

    @property
    def strategy(self) -> str:
        """How weights, gradients and optimizer state are distributed over devices, from the trainer's options."""
        if self.options.get("deepspeed"):
            return f"zero{self.options['deepspeed']['zero_optimization']['stage']}"
        return "fsdp2" if self.options.get("fsdp") else "ddp"


def splits_alike(options: dict[str, Any]) -> bool:
    """Whether a stage's optimizer steps are the same, up to rounding, for every size of micro-batch."""
    return options.get("engine") == "packed" and options.get("nll_mean") != "micro_batch"


def reads_every_pair(options: dict[str, Any], batch_size: int, pairs: int) -> bool:
    """Whether a stage's training reads each of its pairs at least once."""
    if options["max_steps"] > 0:
        return options["max_steps"] * batch_size >= pairs
    return options["num_train_epochs"] >= 1


def late(options: dict[str, Any], adapters: bool) -> bool:
    """Whether the model that DPO refers to is on its devices only once the training begins.

    DeepSpeed and FSDP2 move and shard the policy then. With adapters it is itself the reference, without them.
    """
    return bool(options["deepspeed"] or (options["fsdp"] and adapters))


def scores_before(options: dict[str, Any], adapters: bool, batch_size: int, pairs: int) -> bool:
    """Whether DPO's reference model scores all pairs before the training, as `precompute_ref_log_probs` says.

    Null: where the training reads each of them, and the model can be used before it.
    """
    asked = options["precompute_ref_log_probs"]
    return reads_every_pair(options, batch_size, pairs) and not late(options, adapters) if asked is None else asked


def read_config(directory: Path) -> dict[str, Any]:
    """Return a stage directory's config.yaml as a dictionary.

    Raises:
        UserError: the file is missing, unreadable, or from another version of this project.
    """
    path = directory / "config.yaml"
    try:
        values = yaml.safe_load(path.read_text())
        found = values["format"]
    except FileNotFoundError:
        begin_so = sorted(directory.parent.glob(f"{directory.name}*/config.yaml"))
        there = ", ".join(str(found.parent) for found in begin_so[:3])
        give = f"did you mean {there}?" if there else "give a stage directory that the launcher wrote"
        raise UserError(f"{path} does not exist: {give}") from None
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DamagedConfig(f"{path} is damaged ({reason}): remove {directory} and run again") from None
    if found != FORMAT:
        raise UserError(
            f"{directory} was made by another version of this project (format {found}; this one writes "
            f"{FORMAT}): move it away or remove it, and run again"
        )
    return values


def write_config(directory: Path, values: dict[str, Any]) -> None:
    """Write a stage directory's config.yaml, plain values only."""
    write_text(directory / "config.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120))


def done(directory: Path) -> bool:
    """Whether the stage in `directory` is finished: its record is written last."""
    return (directory / "record.json").is_file()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that this project wrote.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is missing or damaged ({error}): remove {path.parent} and run again") from None


def read_json_rows(path: Path) -> list[Any]:
    """Read a user's file: a JSON list, or JSONL, gzipped if its name ends in .gz.

    Raises:
        UserError: it is missing or contains something else.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = content.decode("utf-8-sig")  # Windows begins a file with a byte order mark
        if text.lstrip().startswith("["):
            return json.loads(text)
        return [json.loads(line) for line in text.split("\n") if line.strip()]  # splitlines splits at more characters
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}): give a JSON list or a JSONL file, also .gz") from None
