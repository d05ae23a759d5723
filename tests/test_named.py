"""MODEL= and DATASET= name anything: what a model without a profile says of itself is what it is trained with."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from door import launch, record, stages
from huggingface_hub import constants
from models import BASES, FAMILIES, tokenizer_of, write_files, write_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from eval.answers import load
from launch import profile
from launch.config.schema import Config
from launch.named import profile as profiles
from launch.named.files import ModelFiles
from launch.named.tokens import own_stops
from launch.named.words import with_profiles
from launch.stages.inputs import with_chat_template
from recipes.config import UserError
from recipes.system.hub import reachable
from recipes.training.tokenizer import load_tokenizer

Compose = Callable[..., Config]
ODD = "a=b, [1] #2 (it's)"  # a name that neither make, the shell nor Hydra may read as anything else


def composed(compose: Compose, *words: object) -> Config:
    return compose(*with_profiles(str(word) for word in words))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_is_trained_with_what_it_says_of_itself(compose: Compose, name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    directory = write_files(family, tmp_path / f"Own {name}")
    config = composed(compose, f"model={directory}", "dataset=pocket")
    model = config.model
    assert (model.name, model.model_name_or_path) == (f"own-{name}", str(directory))
    assert (model.stop_tokens, model.pad_token, model.chat_template) == (family.stops, family.pad, None)
    loaded = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(directory))
    assert model.parameters == sum(weight.numel() for weight in loaded.parameters())
    assert {*config.model_options["lora_target_modules"]} <= {path.split(".")[-1] for path, _ in loaded.named_modules()}
    assert model.context_length == 2048
    assert config.options["orpo"]["beta"] == 1.0, "as for the smallest models, and not pocket's by chance"
    assert [config.options[stage]["learning_rate"] for stage in ("sft", "dpo", "orpo")] == [3e-4, 1e-6, 2e-5]


@pytest.mark.parametrize(
    ("generation", "config", "eos", "stops"),
    [
        ({"eos_token_id": [5, 7]}, {"eos_token_id": 6}, "<c>", ["<a>", "<c>"]),  # its EOS is one of them
        ({"eos_token_id": 6}, {"eos_token_id": 5}, {"content": "<c>"}, ["<b>", "<c>"]),
        ({}, {"eos_token_id": 5}, None, ["<a>"]),
        ({"eos_token_id": None}, {"eos_token_id": 5}, "<b>", ["<b>"]),  # says itself that it names none
        ({"eos_token_id": [99, 5]}, {}, "word", ["<a>"]),  # no added tokens: any text may hold them
        ({}, {}, None, []),
    ],
)
def test_a_model_stops_where_its_settings_and_its_tokenizer_say(
    generation: dict[str, Any], config: dict[str, Any], eos: Any, stops: list[str]
) -> None:
    """generation_config.json goes before config.json; a token that both name is named once."""
    files = ModelFiles("own", None, config, generation, {"eos_token": eos}, {}, None)
    assert own_stops(files, {5: "<a>", 6: "<b>", 7: "<c>"}) == stops


@pytest.mark.parametrize("template", BASES)
def test_a_base_model_gets_the_template_that_its_tokens_are_for(
    compose: Compose, template: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = write_files(BASES[template], tmp_path / "base")
    model = composed(compose, f"model={directory}", "dataset=pocket").model
    assert model.chat_template == template
    ends = {"llama-3": "<|eot_id|>", "chatml": "<|im_end|>", "gemma": "<end_of_turn>", "zephyr": "<|endoftext|>"}
    assert model.stop_tokens[0] == ends[template] and model.pad_token not in model.stop_tokens
    assert BASES[template].named["eos_token"] in model.stop_tokens
    assert "no chat template" in " ".join(capsys.readouterr().err.split())


def test_a_hub_id_is_pinned_to_its_commit(compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit, cache = "0123456789abcdef" * 2 + "01234567", tmp_path / "models--someone--Tiny-3"
    write_files(FAMILIES["qwen3"], cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    reachable.cache_clear()
    model = composed(compose, "model=someone/Tiny-3", "dataset=pocket").model
    assert (model.name, model.model_name_or_path, model.model_revision) == ("tiny-3", "someone/Tiny-3", commit)
    assert model.stop_tokens == FAMILIES["qwen3"].stops
    copy = cache / "snapshots" / commit
    assert with_profiles([f"model=someone/Tiny-3,{copy}"]) == ["model=tiny-3,tiny-3-2"], "two of a sweep are two"
    with pytest.raises(UserError, match="someone/tiny-4 is not in the local cache"):
        with_profiles(["model=someone/tiny-4"])


def test_a_hub_id_that_has_a_profile_is_that_profile() -> None:
    assert with_profiles(["model=Qwen/Qwen2.5-0.5B"]) == ["model=qwen2.5-0.5b"]
    assert with_profiles(["dataset=Anthropic/hh-rlhf"]) == ["dataset=hh-rlhf"]


@pytest.mark.parametrize(
    ("word", "said"),
    [("seed=0,", "commas without spaces"), ("1", "give options as name=value"), ("lora", "give options as name=value")],
)
def test_blanks_after_commas_are_told(word: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        with_profiles([word])
    assert with_profiles(["--cfg", "job"]) == ["--cfg", "job"]


def test_a_model_without_profile_trains_on_a_file_without_one(pairs_file: Path, tmp_path: Path) -> None:
    """The user's two words, of a Llama-like model in a directory with an odd name; the stage keeps the stop tokens."""
    directory = write_model(FAMILIES["llama-3.2"], tmp_path / ODD / "model")
    shutil.copy(pairs_file, tmp_path / f"{ODD}.jsonl")
    words = [f"model={directory}", f"dataset={tmp_path / ODD}.jsonl", f"runs={tmp_path / 'runs'}", "hardware=cpu"]
    printed = launch(*words, "orpo.max_steps=2", "dataset.test_fraction=0.2")
    (stage,) = stages(tmp_path / "runs")
    assert stage.relative_to(tmp_path / "runs").parts[:2] == ("a-b-1-2-it-s",) * 2 and record(stage)["updates"] == 2
    assert "a turn ends with <|eot_id|>, <|end_of_text|> stops too" in printed
    values = yaml.safe_load((stage / "config.yaml").read_text())
    assert values["model"]["stop_tokens"] == FAMILIES["llama-3.2"].stops
    tokenizer = tokenizer_of(FAMILIES["llama-3.2"])
    ends = json.loads((stage / "model" / "generation_config.json").read_text())["eos_token_id"]
    assert [tokenizer.convert_ids_to_tokens(number) for number in ends] == FAMILIES["llama-3.2"].stops


def test_a_profile_is_written_once_and_composes_the_same(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write_files(FAMILIES["mistral-v0.3"], tmp_path / "mine")
    made = composed(compose, f"model={directory}", "dataset=pocket")
    (tmp_path / "conf" / "model").mkdir(parents=True)
    monkeypatch.setattr(profiles, "CONF", tmp_path / "conf")
    profile.profile([f"model={directory}"])
    path = tmp_path / "conf" / "model" / "mine.yaml"
    assert path.read_text().startswith("# @package _global_\n# Made by")
    values = yaml.safe_load(path.read_text())
    model = made.to_values()["model"]
    assert all(model[name] == value for name, value in values["model"].items() if name not in ("shape", "dtype"))
    assert all(
        made.options[stage][name] == value for stage in ("sft", "dpo", "orpo") for name, value in values[stage].items()
    )
    with pytest.raises(UserError, match="model=mine: that is a profile already"):
        profile.profile([f"model={directory}"])
    for spelling in (f"{directory}", f"{directory}/", f"{directory.parent}/other/../mine"):
        (tmp_path / "other").mkdir(exist_ok=True)
        assert with_profiles([f"model={spelling}"]) == ["model=mine"], "the one that was written for it"
    other = write_files(FAMILIES["mistral-v0.3"], tmp_path / "other" / "mine")
    assert with_profiles([f"model={other}"]) == ["model=mine-2"]


def test_a_written_profile_without_stop_tokens_stops_where_the_model_does(compose: Compose, tmp_path: Path) -> None:
    directory = write_files(FAMILIES["gemma-3"], tmp_path / "model")
    config = compose(
        "model=mistral-7b", f"model.model_name_or_path={directory}", "model.stop_tokens=[]", "model.chat_template=null"
    )
    assert with_chat_template(config).model.stop_tokens == ["<end_of_turn>", "<eos>"]


def test_a_template_that_marks_what_the_model_writes_is_rendered(compose: Compose, tmp_path: Path) -> None:
    """As SmolLM3's: `{% generation %}` is Transformers' own tag, and its white space counts."""
    directory = write_files(FAMILIES["qwen3"], tmp_path / "model")
    text = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% generation %}{{ m.content }}<|im_end|>"
        "{%- endgeneration %}\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    (directory / "chat_template.jinja").write_text(text)
    (directory / "generation_config.json").write_text("{}")
    assert composed(compose, f"model={directory}", "dataset=pocket").model.stop_tokens == ["<|im_end|>"]


def test_a_template_that_ignores_the_question_is_told_and_asks_everywhere(
    compose: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tokenizers of training and of evaluation write the header, and so does what training saves."""
    directory = write_files(FAMILIES["qwen3"], tmp_path / "model")
    text = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    (directory / "chat_template.jinja").write_text(text)
    model = composed(compose, f"model={directory}", "dataset=pocket").model
    said = " ".join(capsys.readouterr().err.split())
    assert r"ignores add_generation_prompt: prompts here end with its '<|im_start|>assistant\n'" in said
    trained, evaluated = load_tokenizer(model, str(directory)), load.load_tokenizer(str(directory), None, model)
    trained.save_pretrained(tmp_path / "saved")
    question = [{"role": "user", "content": "Why?"}]
    for tokenizer in (trained, evaluated, AutoTokenizer.from_pretrained(tmp_path / "saved")):
        asked = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
        assert asked == "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_and_settings_that_disagree_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = write_files(FAMILIES["gemma-3"], tmp_path / "model")
    (directory / "generation_config.json").write_text("{}")
    with_profiles([f"model={directory}"])
    said = " ".join(capsys.readouterr().err.split())
    assert "its template ends a turn with <end_of_turn>, but it stops at <eos>" in said
    assert "base or instruct?" in said


def test_a_directory_that_is_called_like_a_profile_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(FAMILIES["gemma-3"], tmp_path / "phi-2")
    monkeypatch.chdir(tmp_path)
    assert with_profiles(["model=phi-2"]) == ["model=phi-2"]
    assert "is the profile of that name; the directory is MODEL=./phi-2" in capsys.readouterr().err


REFUSED = {
    "model=weights.gguf": "MODEL=weights.gguf is no GGUF file",
    "model=./nowhere": "MODEL=./nowhere does not exist",
    "model=[pocket,pocket-small]": "MODEL=pocket,pocket-small trains each and compares them",
    "model=here.jsonl": "is a file: name the directory",
    "model=empty": "has no config.json",
    "model=stage": "name the model in it, MODEL=stage/model",
    "dataset=no*.jsonl": "no*.jsonl matches no file",
    "dataset=empty": "empty has no file of a supported format",
    "dataset=nowhere.jsonl": "nowhere.jsonl does not exist",
    "model.model_name_or_path=./mine": "use MODEL=./mine",
    "dataset.path=p/a=b.jsonl": """DATASET="p/a=b.jsonl", or ARGS="\\"dataset.path='p/a=b.jsonl'\\"" """.strip(),
    "dataset.path=a,b.jsonl": "dataset.path=a,b.jsonl would be several values",
    "model.pad_token=<|x|>": "model.pad_token='<|x|>'",
    "model.stop_tokens=[<|a|>,<|b|>]": "model.stop_tokens=['<|a|>','<|b|>']",
}


@pytest.mark.parametrize("word", REFUSED)
def test_what_names_nothing_is_told_in_one_line(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "stage" / "model").mkdir(parents=True)
    (tmp_path / "stage" / "model" / "config.json").touch()
    for name in ("weights.gguf", "here.jsonl", "a,b.jsonl"):
        (tmp_path / name).touch()
    with pytest.raises(UserError) as error:
        with_profiles([word])
    assert REFUSED[word] in str(error.value) and "\n" not in str(error.value)


def test_a_longer_dialogue_than_a_model_reads_is_refused(pairs_file: Path, tmp_path: Path) -> None:
    directory = write_files(FAMILIES["mistral-v0.3"], tmp_path / "short")
    words: list[Any] = [f"model={directory}", f"dataset={pairs_file}", "dataset.max_length=4096"]
    assert "dataset.max_length=4096: short reads at most 2048 tokens" in launch(*words, f"runs={tmp_path}", status=2)
