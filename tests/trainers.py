"""The trainers of methods on a tiny model, on either engine, and the gradients of one update."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from families import classifier_of, model_of
from peft import LoraConfig
from transformers import PreTrainedTokenizerFast

from recipes.cpo import TRAINERS as CPO_ENGINES
from recipes.cpo import CPOConfig
from recipes.dpo import TRAINERS as DPO_ENGINES
from recipes.dpo import DPOConfig
from recipes.kto import TRAINERS as KTO_ENGINES
from recipes.kto import KTOConfig
from recipes.orpo import TRAINERS as ORPO_ENGINES
from recipes.orpo import ORPOConfig
from recipes.reward import TRAINERS as REWARD_ENGINES
from recipes.reward import RewardConfig
from recipes.sft import TRAINERS as SFT_ENGINES
from recipes.sft import SFTConfig
from recipes.simpo import TRAINERS as SIMPO_ENGINES
from recipes.simpo import SimPOConfig

Make = Callable[..., Any]
# Of plain gradient descent: Adam would make a whole step of what rounding leaves of a gradient that is zero.
FIVE_STEPS: dict[str, Any] = {"max_steps": 5, "per_device_train_batch_size": 4, "learning_rate": 0.1, "optim": "sgd"}
METHODS: dict[str, tuple[Any, Any]] = {"sft": (SFTConfig, SFT_ENGINES), "dpo": (DPOConfig, DPO_ENGINES)}
OTHERS: dict[str, tuple[Any, Any]] = {
    "orpo": (ORPOConfig, ORPO_ENGINES),
    "cpo": (CPOConfig, CPO_ENGINES),
    "simpo": (SimPOConfig, SIMPO_ENGINES),
    "kto": (KTOConfig, KTO_ENGINES),
    "reward": (RewardConfig, REWARD_ENGINES),
}


def maker(tiny_model: Path, tmp_path: Path) -> Make:
    """Build a trainer; all start from a saved model, from which stock TRL loads its reference."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_model)

    count = itertools.count()

    def build(
        method: str,
        engine: str,
        rows: Any,
        family: str = "Llama",
        adapters: bool = False,
        start: Any = None,
        eval_dataset: Any = None,
        **options: Any,
    ) -> Any:
        config, engines = (METHODS | OTHERS)[method]
        quiet: dict[str, Any] = {"use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True}
        fixed: dict[str, Any] = {"save_strategy": "no", "remove_unused_columns": False, "logging_steps": 1}
        shape = {name: options.pop(name) for name in ("attention_dropout",) if name in options}
        given: dict[str, Any] = {
            "output_dir": str(tmp_path / f"{next(count)}"),
            "max_steps": 1,
            "engine": engine,
            "max_length": None,
        }
        args = config(**{**quiet, **fixed, **given, "engine": engine, "activation_checkpointing": False, **options})
        reward = method == "reward"
        model = start or (classifier_of(family) if reward else model_of(family, **shape))
        model.save_pretrained(tmp_path / family)
        model.config._name_or_path = str(tmp_path / family)
        lora: dict[str, Any] = {"r": 4, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": False}
        # with this task PEFT trains the head, a module beside its original
        peft = LoraConfig(**lora, task_type="SEQ_CLS" if reward else None) if adapters else None
        torch.manual_seed(1)
        return engines[engine](
            *(model, args), train_dataset=rows, eval_dataset=eval_dataset, processing_class=tokenizer, peft_config=peft
        )

    return build


def gradients(trainer: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of all rows as one micro-batch, through the trainer's own loop over an update, and its gradients.

    Accelerate's state is one of the process: of a trainer before, whose training stopped at its data's last batch, it
    may still have the loader, by which the engine would leave pairs out that only filled that batch up.
    """
    trainer.accelerator.gradient_state.dataloader_references = [None]
    batch = [trainer.data_collator(list(trainer.train_dataset))]
    inputs, items = trainer.get_batch_samples(iter(batch), 1, trainer.args.device)
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, inputs[0], num_items_in_batch=items)
    named = {name: weight for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    return loss.item(), dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def train_alike(packed: Any, stock: Any) -> None:
    """Train two trainers of `FIVE_STEPS`, and assert that both end with the same weights, which have moved."""
    before = [weight.clone() for weight in packed.model.parameters()]
    for trainer in (packed, stock):
        trainer.train()
    pairs = zip(packed.model.parameters(), stock.model.parameters(), before, strict=True)
    apart, moved = zip(*(((one - two).abs().max(), (one - old).abs().max()) for one, two, old in pairs), strict=True)
    assert max(apart) < 1e-5 and max(moved) > 1e-3


def move_away(trainer: Any) -> None:
    """Move a policy away from its reference, so that every pair weighs differently."""
    torch.manual_seed(2)
    for weight in trainer.model.parameters():
        if weight.requires_grad:
            weight.data += 0.02 * torch.randn_like(weight)
