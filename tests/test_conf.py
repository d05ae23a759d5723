"""Every profile composes, and gives the real trainers arguments that they take."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment

from launch.config.checks import refuse_useless
from launch.config.schema import Config
from launch.named.packages import INSTEAD, PACKAGES
from paper.published import Experiment, experiments
from recipes.methods import METHODS
from recipes.profiles import Policies

CONF = Path(__file__).parent.parent / "conf"
CONFIGS: dict[str, Any] = {name: method.config_class() for name, method in METHODS.items()}
# Pipelines that have not their last stage's name.
LAST = {"rlhf": "rloo", "dpo_alone": "dpo", **{f"sft_{name}": name for name in METHODS}}
# This machine's part of the arguments: no GPU, no other process.
HERE = {"use_cpu": True, "bf16": False, "fsdp": None, "deepspeed": None, "ddp_backend": None}
Compose = Callable[..., Config]


def profiles(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


MODELS = profiles("model")
GIVEN = {"file": ["dataset.path=pairs.jsonl"], "mixture": ["dataset.sources=[hh-rlhf,pairs.jsonl]"]}


def test_every_file_of_conf_is_met_by_a_test() -> None:
    groups = {"model", "tuning", "dataset", "hardware", "launcher", "stage", "pipeline", "policy", "sweep", "tune"}
    groups |= {"cloud", "demonstrations"}  # tests/test_cloud.py, test_demonstrations.py
    found = {path.relative_to(CONF).parts[0] for path in CONF.rglob("*.yaml")}
    assert found == groups | {"experiment", "config.yaml"}
    assert len(MODELS) >= 10 and len(profiles("dataset")) >= 7 and len(profiles("hardware")) >= 4


@pytest.mark.parametrize(
    "model, hardware",
    [*((model, "8x80gb") for model in MODELS), *(("phi-3-mini", hardware) for hardware in profiles("hardware"))],
)
def test_models_tunings_and_machines_compose(compose: Compose, model: str, hardware: str) -> None:
    for tuning in profiles("tuning"):
        config = compose(
            f"model={model}", f"hardware={hardware}", f"tuning={tuning}", "pipeline=compare", "batch_size=256"
        )
        assert config.model.name == model and config.hardware.name == hardware
        assert config.model_options["use_peft"] == (tuning != "full")
        for stage, build in CONFIGS.items():
            args = build(**config.options[stage] | HERE)
            answers = args.num_generations if stage == "rloo" else 1  # to each prompt that its batch counts
            at_once = args.per_device_train_batch_size // answers * config.hardware.processes
            assert args.gradient_accumulation_steps * at_once == config.batch_size


@pytest.mark.parametrize(
    "dataset, pipeline",
    [*((dataset, "compare") for dataset in profiles("dataset")), *(("pocket", name) for name in profiles("pipeline"))],
)
def test_data_sets_and_pipelines_compose(compose: Compose, dataset: str, pipeline: str) -> None:
    config = compose(f"dataset={dataset}", f"pipeline={pipeline}", *GIVEN.get(dataset, []))
    assert {config.options[stage]["max_length"] for stage in set(CONFIGS) - {"rloo"}} == {config.dataset.max_length}
    assert all(stages[-1] == LAST.get(name, name) for name, stages in config.pipelines.items())


@pytest.mark.parametrize("tuning", ["lora", "qlora"])
def test_adapters_have_a_rate_of_their_own_in_every_method(compose: Compose, tuning: str) -> None:
    full, adapters = (compose("model=smollm2-135m", f"tuning={name}").options for name in ("full", tuning))
    rates = {method: (full[method]["learning_rate"], adapters[method]["learning_rate"]) for method in METHODS}
    assert all(one != other for one, other in rates.values()), rates
    assert len({adapters[method]["learning_rate"] for method in ("dpo", "cpo", "simpo", "kto")}) == 1


def test_the_experiment_of_all_methods_has_settings_of_its_own_pipelines(compose: Compose) -> None:
    config = compose("pipeline=methods", "experiment=all-methods")
    refuse_useless(config)
    assert {*config.tuned} <= {*config.pipelines} and len(config.pipelines) == 9
    assert config.of("cpo").options["cpo"]["learning_rate"] == config.tuned["cpo"]["cpo.learning_rate"]


@pytest.mark.parametrize("model", [name for name in MODELS if not name.startswith("pocket") and name not in PACKAGES])
def test_hub_models_are_pinned_and_train_on_ultrafeedback_by_default(compose: Compose, model: str) -> None:
    config = compose(f"model={model}")
    assert re.fullmatch("[0-9a-f]{40}|refs/pr/25", config.model.model_revision)
    assert config.dataset.name == "ultrafeedback"
    assert config.model_options["lora_target_modules"] and (config.model.parameters or 0) > 1e8


def test_a_package_has_a_profile_named_as_its_directory(compose: Compose) -> None:
    assert {*INSTEAD} <= {*MODELS} and {*INSTEAD.values()} <= {*PACKAGES}
    for name in PACKAGES:
        assert Path(compose(f"model={name}").model.model_name_or_path).name == name
        assert re.search(r"\d-bit$", name), "the table's scope and the stages' directories say so"


@pytest.mark.parametrize("model", MODELS)
def test_a_pad_token_is_not_a_stop_token(compose: Compose, model: str) -> None:
    profile = compose(f"model={model}").model
    assert profile.stop_tokens and profile.pad_token not in (None, *profile.stop_tokens)


def test_phi_3_stops_at_both_of_its_tokens(compose: Compose) -> None:
    assert compose("model=phi-3-mini").model.stop_tokens == ["<|end|>", "<|endoftext|>"]


@pytest.mark.parametrize(
    "model", [name for name in MODELS if "chat_template" in (CONF / f"model/{name}.yaml").read_text()]
)
def test_a_template_ends_a_turn_with_the_profiles_stop_token(compose: Compose, model: str) -> None:
    profile = compose(f"model={model}").model
    template = Environment().from_string((CONF / f"chat_template/{profile.chat_template}.jinja").read_text())
    stop = profile.stop_tokens[0]
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    tokens = {"eos_token": stop, "bos_token": "<s>"}
    asked = template.render(messages=prompt, add_generation_prompt=True, **tokens)
    answered = template.render(messages=[*prompt, {"role": "assistant", "content": "Hello"}], **tokens)
    assert answered.startswith(asked) and answered[len(asked) :].rstrip() == f"Hello{stop}"
    assert "Be brief." in asked


DATA = {
    **{"hh-rlhf": "HH-RLHF", "ultrafeedback": "UltraFeedback"},
    **{"ultrafeedback-cleaned": "UltraFeedback cleaned", "capybara-dpo-7k": "Capybara 7k"},
}


def test_every_experiment_has_its_machine_and_its_figures() -> None:
    files = {path.stem for path in (CONF / "experiment" / "orpo-paper").glob("*.yaml")}
    assert {experiment.name for experiment in experiments()} == files - {"appendix-c"}


@pytest.mark.parametrize("experiment", experiments(), ids=lambda experiment: experiment.name)
def test_experiments_compose_by_their_command_and_train_what_was_published(
    compose: Compose, experiment: Experiment
) -> None:
    """Every figure that one expects is a published one of its model, its data and one of its pipelines."""
    text = (CONF / "experiment" / "orpo-paper" / f"{experiment.name}.yaml").read_text()
    assert f"# Command: python -m launch {' '.join(experiment.words)}\n" in text
    config = compose(*experiment.words)
    for stage in config.stages:
        CONFIGS[stage](**config.options[stage] | HERE)
    assert experiment.expected and config.evaluate
    for figure in experiment.expected:
        assert figure.model.lower() == config.model.name and figure.data == DATA[config.dataset.name]
        for method in filter(None, (figure.method, figure.against)):
            assert method.lower().split("+") in config.pipelines.values(), figure


@pytest.mark.parametrize("sweep", profiles("sweep"))
def test_sweeps_compose(compose: Compose, sweep: str) -> None:
    values = yaml.safe_load((CONF / "sweep" / f"{sweep}.yaml").read_text())
    params = values["hydra"]["sweeper"]["params"]
    assert values["hydra"]["mode"] == "MULTIRUN"
    for name, choices in params.items():
        for choice in str(choices).split(","):
            compose(f"{name}={choice.strip()}")


def test_the_strict_policy_refuses_whatever_is_dropped_by_default() -> None:
    strict = yaml.safe_load((CONF / "policy" / "refuse.yaml").read_text())
    assert {name for name, policy in vars(Policies()).items() if policy == "drop"} <= strict.keys()
