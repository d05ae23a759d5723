"""The profiles of `conf/`: a model, a data set with its policies, a machine."""

from dataclasses import dataclass, field


@dataclass
class Shape:
    """The sizes of a decoder, from its public config.json; they determine its memory and FLOPs."""

    family: str  # config.json's `model_type`: one of launch.config.shape.FAMILIES
    layers: int
    hidden: int
    intermediate: int
    heads: int
    vocabulary: int
    key_value_heads: int | None = None  # null: as many as `heads`
    head: int | None = None  # the size of a head; null: hidden / heads
    tied: bool = False  # whether embedding and LM head share one matrix
    positions: int = 0  # if learned
    embedding: int | None = None  # the width of the embedding if it is not `hidden`


@dataclass
class Model:
    """What a model needs besides the options of `trl.ModelConfig`, which `model.` also takes."""

    name: str
    model_name_or_path: str
    model_revision: str = "main"
    chat_template: str | None = None  # a name in conf/chat_template, a file, or null: the tokenizer's own
    stop_tokens: list[str] = field(default_factory=list)  # the first one ends a turn
    pad_token: str | None = None  # null: the tokenizer's own
    context_length: int | None = None  # the longest dialogue that it can read; null: not checked
    parameters: int | None = None  # only used to reject early what does not fit the hardware
    shape: Shape | None = None  # null: read from a local model directory's config.json
    pocket_size: str | None = None  # small, medium or large: the embedded world's model; medium is shipped

    def __post_init__(self) -> None:
        """Build the shape if it is given as plain values."""
        if isinstance(self.shape, dict):
            self.shape = Shape(**self.shape)


TEST, VALIDATION = "test", "validation"  # the splits that pipelines are reported on, and that settings are chosen on
EMBEDDED = "pocket"  # the path of the embedded world's pairs, and the name of its gold reward
JUDGE = "judge"  # the split of the pairs that no policy trains on: the reward model that judges them does
KEEP, DROP, REFUSE = "keep", "drop", "refuse"
TRUNCATE = ("truncate_prompt", "truncate_answer")


@dataclass
class Policies:
    """What to do with a row that has a finding (see recipes.data.findings): keep, drop, or refuse the data set."""

    malformed: str = REFUSE  # a column is missing, null, or neither text nor messages
    unrendered: str = REFUSE  # the chat template rejects the dialogue, its tools, or how it begins
    diverging: str = DROP  # the two responses belong to different prompts
    empty: str = DROP  # a response without text
    identical: str = DROP  # two identical responses
    undecided: str = DROP  # a judgement that is a tie: no response is preferred
    alone: str = DROP  # of rows with one labelled response: no other one is left for it; keep: for KTO and SFT alone
    tied: str = KEEP  # a preferred response with the same score as the other
    overlong: str = DROP  # beyond max_length; also truncate_prompt (its beginning) or truncate_answer (its end)
    unfit: str = DROP  # beyond max_length even when truncated
    duplicate: str = DROP  # the same prompt and responses as an earlier row
    conflict: str = DROP  # another row prefers the response that this one rejects
    near_duplicate: str = KEEP  # nearly the same prompt and responses as an earlier row
    leak: str = DROP  # the prompt is in the test split too
    contaminated: str = DROP  # the prompt is in an evaluation set
    role_order: str = KEEP  # two turns of one role in a row, or a system turn that is not the first
    system_lost: str = KEEP  # the chat template leaves the system turn out
    ignored: str = KEEP  # the row holds something that training does not use: a message's other field, for example
    rendered: str = KEEP  # text with a chat template's marks: they are read as text, not as turns
    unfinished: str = KEEP  # a response that ends in the middle of a sentence


@dataclass
class Estimate:
    """Training pairs of a data set and mean tokens of their parts, for `make plan` until they are counted."""

    rows: int = 0  # 0: there is no estimate
    prompt: float = 0.0
    chosen: float = 0.0
    rejected: float = 0.0


@dataclass
class Dataset:
    """The source of preference pairs, and the selection to train on."""

    name: str
    path: str  # a Hub id, or a JSON, JSONL (also .gz), CSV or Parquet file, a folder or a pattern of them, or "pocket"
    test_path: str | None = None  # a second file; null: hold out `test_fraction` of the prompts
    config: str | None = None  # of a Hub data set with several
    data_dir: str | None = None  # of a Hub data set: the folder that is read
    revision: str | None = None  # of a Hub data set: a commit, a tag or a branch
    train_split: str = "train"  # of a Hub data set
    test_split: str | None = None  # null: hold out `test_fraction` of the prompts
    test_fraction: float = 0.05  # of the prompts, held out for the table
    validation_fraction: float | None = None  # of the other prompts, where settings are chosen by them; null: 0.1
    judge_fraction: float | None = None  # of the other prompts: for the reward model that `judge` trains; null: 0.2
    max_length: int = 1024  # tokens of prompt and response; policies.overlong decides about longer pairs
    train_rows: int | None = None  # null: all
    test_rows: int | None = 500  # the most held-out pairs; null: all
    max_new_tokens: int = 512  # per sampled response, in evaluation
    cluster: str | None = None  # a column: rows with equal values have related prompts; null: those with one first turn
    gold: str | None = None  # what scores responses exactly: "pocket", or a function of a local file, file.py:function
    streaming: bool = False  # read the first `train_rows` rows of a Hub data set without downloading the rest
    policies: Policies = field(default_factory=Policies)
    evaluation_prompts: list[str] = field(default_factory=list)  # files of prompts that must not be trained on
    sources: list[str] = field(default_factory=list)  # for a mixture: profiles of conf/dataset, or files
    weights: list[float] = field(default_factory=list)  # for a mixture: the sources' shares; none: all rows of each
    counts: list[int] = field(default_factory=list)  # for a mixture: the sources' numbers of rows, instead of shares
    seed: int = 0  # for the choice of rows in a mixture; the same for all methods and every `seed`
    estimate: Estimate = field(default_factory=Estimate)

    def __post_init__(self) -> None:
        """Build the parts if they are given as plain values."""
        if isinstance(self.policies, dict):
            self.policies = Policies(**self.policies)
        if isinstance(self.estimate, dict):
            self.estimate = Estimate(**self.estimate)


@dataclass
class Hardware:
    """A machine: how many processes train, in how much memory."""

    name: str
    processes: int
    per_device_batch: int | None = None  # pairs of a micro-batch; null: for each stage as many as its forecast allows
    memory_gb: float | None = None  # per device; null: not checked
    use_cpu: bool = False  # train on CPUs, also where there is a GPU
    bf16: bool = True  # compute in bfloat16; the trained weights stay in float32
    strategy: str = "ddp"  # for several processes: ddp, fsdp2, zero2 or zero3; see docs/compatibility.md
    nodes: int = 1  # `processes` are spread evenly over them
    offload: bool = False  # fsdp2, zero2, zero3: keep what is sharded in CPU memory, much slower
    # Recompute activations in the backward pass: less memory, a third slower; null: where nothing fits without.
    activation_checkpointing: bool | None = None
    tflops: float | None = None  # peak rate of one device in bf16, dense; only used to estimate hours
    utilisation: float = 0.4  # the share of tflops that a training reaches
