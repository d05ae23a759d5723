"""Merging a trained adapter into its base."""

import sys
from pathlib import Path

from peft import PeftModel

from recipes.config import Stage
from recipes.model import fit_to_tokenizer, load_tokenizer, pretrained, save_model


def merge(directory: Path) -> None:
    """Merge a stage's adapter into its base in the base's own dtype and save a plain model.

    A process of its own: merging inside a sharded run is fragile, and a 4-bit base would stay 4-bit.
    """
    stage = Stage.load(directory)
    tokenizer = load_tokenizer(stage.model, stage.start, stage.start_revision)
    dtype = stage.model_options["dtype"]
    base = fit_to_tokenizer(pretrained(stage, dtype=dtype), stage.model, tokenizer)
    merged = PeftModel.from_pretrained(base, str(directory / "adapter")).merge_and_unload()
    save_model(merged, tokenizer, stage.output)


if __name__ == "__main__":
    merge(Path(sys.argv[1]))
