"""A model's files, a configuration and a log are not trusted: no foreign code runs, and no secret is written."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from door import launch
from safetensors.torch import load_file

from eval.answers.load import load_weights
from launch.config.checks import refuse_useless
from launch.config.schema import Config
from launch.config.trust import refuse_words, unpinned
from launch.executors.job import Outcome
from launch.stages.inputs import find_model
from launch.stages.run import claim
from recipes.config import Stage, UserError, write_text
from recipes.profiles import Model
from recipes.system.secrets import without_password
from recipes.training.model import pretrained, save_model
from recipes.training.reward_model import load_classifier
from recipes.training.tokenizer import load_tokenizer

Compose = Callable[..., Config]
SECRET = "sk-not-a-word-anybody-says"  # pragma: allowlist secret


class Exploit:
    """What a pickle can do: call anything when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def loaders(model: Path) -> list[Callable[[], object]]:
    """Every way in which weights are read."""
    profile = Model("tiny", str(model))
    more: dict[str, Any] = {"model_options": {}, "pairs": model, "processes": 1, "digest": ""}
    stage = Stage(model, "orpo", 0, 4, str(model), None, profile, options={"disable_dropout": True}, **more)
    return [
        lambda: pretrained(stage),
        lambda: load_weights(str(model), None),
        lambda: load_classifier(str(model), None, foreign=True),
    ]


def test_pickled_weights_are_refused_unread(model: Path, tmp_path: Path) -> None:
    weights: dict[str, Any] = load_file(model / "model.safetensors")
    torch.save(weights, model / "pytorch_model.bin")
    with (model / "pytorch_model.bin").open("wb") as file:
        pickle.dump(weights | {"exploit": Exploit(tmp_path / "read")}, file)
    loaders(model)[0]()  # the safe file is the one that is read
    (model / "model.safetensors").unlink()
    for load in loaders(model):
        with pytest.raises(UserError, match="no weights in safetensors") as error:
            load()
        assert str(model) in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "read").exists()


def test_code_of_a_model_is_refused_and_named(model: Path, tmp_path: Path) -> None:
    (model / "evil.py").write_text(f"import os; os.mkdir({str(tmp_path / 'run')!r})")
    kinds = {kind: "evil.Evil" for kind in ("AutoConfig", "AutoModelForCausalLM", "AutoModelForSequenceClassification")}
    for name, more in (
        ("config.json", {"model_type": "evil", "auto_map": kinds}),
        ("tokenizer_config.json", {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": [None, "evil.Evil"]}}),
    ):
        (model / name).write_text(json.dumps(json.loads((model / name).read_text()) | more))
    for load in [*loaders(model), lambda: load_tokenizer(Model("tiny", str(model)), str(model))]:
        with pytest.raises(UserError, match="needs trust_remote_code") as error:
            load()
        assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_what_is_saved_names_no_code_and_an_adapter_beside_a_model_is_refused(model: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer_config.json"):
        known = json.loads((model / name).read_text()) | {
            "auto_map": {"AutoModel": "evil.Evil", "AutoTokenizer": "a.B"}
        }
        (model / name).write_text(json.dumps(known))
    weights: Any = load_weights(str(model), None)
    save_model(weights, load_tokenizer(Model("tiny", str(model)), str(model)), tmp_path / "saved")
    for name in ("config.json", "tokenizer_config.json"):
        assert "auto_map" not in (tmp_path / "saved" / name).read_text()
    (model / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="has an adapter"):
        find_model(str(model), "main")


def test_an_address_is_shown_without_its_password() -> None:
    assert without_password("https://me:it@hub.corp/a@b") == "https://(hidden)@hub.corp/a@b"  # pragma: allowlist secret
    assert without_password("https://hub.corp/me@here") == "https://hub.corp/me@here"


@pytest.mark.parametrize(
    "option",
    [
        "hub_token=sk-secret",
        "trust_remote_code=true",
        "push_to_hub=true",
        "save_only_model=true",
        "restore_callback_states_from_checkpoint=true",
    ],
)
def test_options_that_leak_trust_or_break_a_resumption_are_refused_without_their_value(
    compose: Compose, option: str
) -> None:
    with pytest.raises(UserError, match=rf"orpo\.{option.split('=')[0]} is not allowed") as error:
        refuse_useless(compose("pipeline=orpo", f"orpo.{option}"))
    assert "sk-secret" not in str(error.value)


def test_a_command_calls_nothing() -> None:
    printed = launch("--cfg", "job", "+hydra.callbacks.mine._target_=webbrowser.open", status=2)
    assert "error: +hydra.callbacks.mine._target_: options that name code to call are not allowed" in printed
    for word in (
        *("hydra.job_logging.version=2", "orpo={_target_: x}", "~hydra.callbacks", "hydra.searchpath=[file://x]"),
        *("hydra/callbacks=x", "+hydra/callbacks@hydra.callbacks.a=x", "orpo@hydra.callbacks.a=sft", "hydra.run.dir=x"),
        *("--config-dir=x", "--config-d", "-cd", "--config-path", "-mcd", "--experimental-rerun"),
    ):
        with pytest.raises(UserError, match=r"remove it|unsupported flag"):
            refuse_words([word])
    refuse_words(["-m", "--cfg", "job", "--resolve", "model=pocket", "dataset.path=hydra.jsonl", "seed=0,1"])


def test_a_secret_in_a_command_is_written_nowhere(tmp_path: Path) -> None:
    for word in ("sft.hub_token=hf_unknown", f"dataset.path={SECRET}"):
        printed = launch(f"runs={tmp_path}", word, status=2, SOME_API_KEY=SECRET)
        assert word.partition("=")[0] in printed and SECRET not in printed and "hf_unknown" not in printed
    assert not list(tmp_path.iterdir())


def test_what_may_change_on_the_hub_is_said(compose: Compose, tiny_model: Path) -> None:
    assert not [*unpinned(compose("model=pocket"))] and not [*unpinned(compose("model=phi-2"))]
    moving = compose("model=phi-2", "model.model_revision=main", "dataset.revision=v1")
    assert [line.split(":")[0] for line in unpinned(moving)] == [
        "microsoft/phi-2 follows main",
        "HuggingFaceH4/ultrafeedback_binarized follows v1",
    ]
    assert not [*unpinned(compose("model=phi-2", f"model.model_name_or_path={tiny_model}"))]


def test_secrets_are_in_no_file_error_or_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    (tmp_path / "token").write_text("hf_stored_by_login\n")
    leak = f"401 for {SECRET} and hf_stored_by_login"
    write_text(tmp_path / "config.yaml", leak)
    (tmp_path / "log.txt").write_bytes(leak.encode() + b"\xff")
    with claim(tmp_path):  # as the next launch does, where a killed one could not
        pass
    outcome = Outcome([])
    outcome.fail(1, leak)
    said = [(tmp_path / "config.yaml").read_text(), str(UserError(leak)), outcome.errors[0]]
    assert (
        said == ["401 for (hidden) and (hidden)"] * 3
        and (tmp_path / "log.txt").read_bytes() == b"401 for (hidden) and (hidden)\xff"
    )
    assert SECRET not in capfd.readouterr().err
