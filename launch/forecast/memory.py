"""The peak memory of a training on one device, part by part, from the model's shape and the largest micro-batch."""

from dataclasses import dataclass

from launch.config.shape import (
    adapter_parameters,
    head_parameters,
    key_value_width,
    layer_parameters,
    linears,
    parameters,
    query_width,
    saved_per_token,
)
from recipes.profiles import Shape

PACKED_CHUNK, KEPT_CHUNKS = 2**24, 8  # logits at once, and chunks that are kept, as in recipes.engine.log_probs
FUSED_TILE = (4096, 32768)  # tokens x vocabulary at once, as in TRL's add_fused_lm_head
HEAP, HEAP_BLOCK = 1.15, 2**25  # glibc fragments blocks of up to 32 MiB: a seventh more, as measured
QUANTISED = 0.53  # bytes of a 4-bit weight with its scales
# Copies of the LM head's logits that are alive at once in its backward pass. Packed: a chunk's log-softmax and two
# gradients, beside the log-softmax of the chunks that are kept. Fused: the tile alone, in place; on a CPU, where TRL
# has no kernel, seven values computed from it, too. Stock ORPO: all logits, half of them again as log-softmax of the
# NLL term, and the gradients of both while they are summed; as measured by `make bench`.
COPIES = {"packed": 3.0, "fused": 1.0, "stock": 4.0}
ON_CPU = {"fused": 8.0}


@dataclass(frozen=True)
class Setting:
    """How a model trains on one device."""

    tuning: str  # full, lora or qlora
    head: str  # packed, stock, or fused: TRL's SFT, DPO and KTO
    weight_bytes: int = 4  # of a stored weight (of the frozen base model)
    half: bool = False  # autocast to bf16
    fp16: bool = False  # weights in float16, which autocast copies like those in float32
    checkpointing: bool = False  # of activations
    rank: int = 16
    targets: tuple[str, ...] = ()  # of the adapters; empty: on all matrices
    shards: int = 1  # devices that shard gradients, optimizer state and, unless `whole`, weights
    whole: bool = False  # every device has all weights: DDP, ZeRO-2
    buckets: bool = False  # DDP of several processes: gradients are copied to be summed
    offload: bool = False  # what is sharded is in CPU memory
    cpu: bool = False
    frozen: int = 0  # frozen models of the same size: reference model, reward model
    accumulates: bool = False  # gradients of earlier micro-batches are kept during the forward pass


@dataclass(frozen=True)
class MicroBatch:
    """The largest forward pass: tokens with padding, a shared prompt once."""

    tokens: int
    scored: int  # positions whose logits are computed
    shared: int = 0  # keys that packed attention copies: of prompts and rejected responses


@dataclass(frozen=True)
class Memory:
    """Bytes on one device."""

    weights: float
    adapters: float
    gradients: float
    optimiser: float
    reference: float
    activations: float
    head: float
    buckets: float = 0.0
    accumulates: bool = False

    @property
    def peak(self) -> float:
        """The maximum: when the LM head's backward pass begins, or when all gradients exist."""
        before = self.activations + self.head + (self.gradients if self.accumulates else 0.0)
        held = self.weights + self.adapters + self.optimiser + self.reference + self.buckets
        return held + max(before, self.gradients)

    @property
    def above_idle(self) -> float:
        """The peak above a process that has loaded the model but has no trainer and no adapters yet."""
        return self.peak - self.weights


def trained(shape: Shape, setting: Setting) -> int:
    """Return the number of trained weights."""
    if setting.tuning == "full":
        return parameters(shape)
    return adapter_parameters(shape, setting.rank, list(setting.targets))


def forecast_memory(shape: Shape, setting: Setting, batch: MicroBatch) -> Memory:
    """Return a training's memory at its peak."""
    updated = trained(shape, setting)
    full = setting.tuning == "full"
    base = weight_memory(shape, setting)
    gradients = updated * (setting.weight_bytes if full else 4)
    state = 2 * gradients  # Adam's two moments, in the weights' dtype
    if setting.shards > 1:
        shared = 0.0 if setting.offload else 1 / setting.shards
        state, gradients = state * shared, gradients / setting.shards
        if not setting.whole:
            gathered = 2 * layer_parameters(shape) + 2 * head_parameters(shape)  # this layer and the next, both ends
            base = base * shared + gathered * (2 if setting.half else setting.weight_bytes)
    return Memory(
        weights=base,
        adapters=0.0 if full else 4.0 * updated,
        gradients=gradients,
        optimiser=state,
        reference=base * setting.frozen,
        activations=activation_memory(shape, setting, batch),
        head=head_memory(shape, setting, batch),
        buckets=gradients if setting.buckets else 0.0,
        accumulates=setting.accumulates,
    )


def weight_memory(shape: Shape, setting: Setting) -> float:
    """Return the bytes of the model's weights without adapters."""
    if setting.tuning != "qlora":
        return parameters(shape) * setting.weight_bytes
    quantised = shape.layers * sum(inputs * outputs for inputs, outputs in linears(shape).values())
    return quantised * QUANTISED + (parameters(shape) - quantised) * setting.weight_bytes


def activation_memory(shape: Shape, setting: Setting, batch: MicroBatch) -> float:
    """Return the bytes of what the layers keep for the backward pass, and of autocast's copies of the weights."""
    full = setting.tuning == "full"
    stream, rest = saved_per_token(shape, trains_norms=full)
    if setting.head == "packed" or shape.family in ("phi", "phi3"):
        # attention's result is copied: dialogues are joined, and these families change its layout
        rest += query_width(shape)
    small = 2 if setting.half else 4
    wide = 4  # RMSNorm and LayerNorm compute in float32
    layer = batch.tokens * (stream * wide + rest * small) + batch.shared * 2 * key_value_width(shape) * small
    kept = batch.tokens * shape.hidden * (wide if setting.weight_bytes == 4 else small)
    # temporary values of a layer, part of which an allocator keeps; adapters compute every output once more
    freed = layer if full else 2 * layer
    layers = (shape.layers * kept if setting.checkpointing else shape.layers * layer) + freed
    copies = 0.0
    if setting.half and (setting.weight_bytes == 4 or setting.fp16) and (setting.shards == 1 or setting.whole):
        copies = 2.0 * parameters(shape)
    if setting.cpu and batch.tokens * shape.intermediate * small < HEAP_BLOCK:
        layers *= HEAP
    return layers + 3 * batch.tokens * shape.hidden * wide + copies


def head_memory(shape: Shape, setting: Setting, batch: MicroBatch) -> float:
    """Return the bytes of logits, of values computed from them, and of the LM head's gradient while it accumulates."""
    total = logits = batch.scored * shape.vocabulary
    beside = 0
    if setting.head == "packed":
        logits = min(total, max(PACKED_CHUNK, shape.vocabulary))
        beside = 0 if setting.checkpointing else min(total - logits, KEPT_CHUNKS * PACKED_CHUNK)
    elif setting.head == "fused":
        logits = min(batch.scored, FUSED_TILE[0]) * min(shape.vocabulary, FUSED_TILE[1])
    copies = ON_CPU.get(setting.head, COPIES[setting.head]) if setting.cpu else COPIES[setting.head]
    at_once = copies * logits * (2 if setting.half and setting.head != "packed" else 4) + 4.0 * beside
    gradient = 0.0
    if setting.tuning == "full" and logits < total:
        gradient = head_parameters(shape) * 8.0  # of earlier chunks, and of the current one
    return at_once + gradient + 2 * batch.scored * shape.hidden * 4
