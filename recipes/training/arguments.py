"""A stage's options in its trainer's form."""

from collections.abc import Callable
from typing import Any, TypeVar

from transformers import set_seed
from transformers.utils import is_liger_kernel_available

from recipes.config import Stage, UserError
from recipes.engine.trl import keep_outputs_in_float32
from recipes.methods import METHODS

Options = TypeVar("Options")
ORDERS = ("random", "sequential")  # in which a training may read its rows

# Of Liger's kernels, those that replace the model's own forward pass and loss: both engines need the logits.
LOSSES = ("fused_linear_cross_entropy", "cross_entropy")


def arguments(config: Callable[..., Options], stage: Stage) -> Options:
    """Build a trainer's arguments; before the model, since they arm ZeRO-3 and FSDP for sharded loading.

    Raises:
        UserError: TRL or Transformers rejects an option's value.
    """
    for option in ("auto_find_batch_size", "resume_from_checkpoint", "neftune_noise_alpha", "label_smoothing_factor"):
        if stage.options.get(option):
            raise UserError(f"{stage.stage}.{option} is not supported: the record would not show its effect; remove it")
    if (order := stage.options.get("train_sampling_strategy")) not in (None, *ORDERS):
        raise UserError(
            f"{stage.stage}.train_sampling_strategy={order} needs a length of each row, which pairs do not have: use "
            f"{' or '.join(ORDERS)}; {stage.stage}.engine=packed pads nothing anyway"
        )
    if stage.options.get("save_strategy") == "best" and stage.processes > 1:
        raise UserError(f"{stage.stage}.save_strategy=best loses the costs of other processes: use steps or epoch")
    if stage.options.get("packing") or stage.options.get("dataloader_num_workers"):
        raise UserError(
            f"{stage.stage}.packing and dataloader_num_workers hide rows from the cost meter: leave them off; "
            f"{stage.stage}.engine=packed already avoids padding"
        )
    try:
        args = config(**stage.options | {"output_dir": str(stage.directory)})  # even if runs/ has been moved
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"an option under `{stage.stage}.` is invalid: {' '.join(str(error).split())}") from None
    if METHODS[stage.stage].reference_passes:  # TRL loads the reference model by name
        args.model_init_kwargs = {"revision": stage.start_revision}  # type: ignore[attr-defined]
    keep_outputs_in_float32(args)
    if stage.options.get("use_liger_kernel"):
        keep_the_models_loss(args, stage.stage)
    set_seed(stage.seed)  # adapters are created before the trainer would do so
    return args


def keep_the_models_loss(args: Any, stage: str) -> None:
    """Let Liger replace norms, rotary embeddings and MLPs, but not the forward pass in which log-probs are computed.

    TRL does so for SFT, DPO and KTO; under its ORPO, CPO and SimPO Liger would replace the packed forward pass.

    Raises:
        UserError: Liger is not installed, or the option asks for what is never used.
    """
    given = args.liger_kernel_config or {}
    asked = [name for name in LOSSES if given.get(name)]
    if asked:
        raise UserError(f"{stage}.liger_kernel_config.{asked[0]}: these losses need the logits; remove it")
    if not is_liger_kernel_available():
        raise UserError(f"{stage}.use_liger_kernel needs a package: pip install liger-kernel (and a GPU with Triton)")
    args.liger_kernel_config = {**given, **dict.fromkeys(LOSSES, False)}
