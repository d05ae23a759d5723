"""The inputs of `make doctor` and `make show`: a configuration's pairs and tokenizer, without weights."""

from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize_config_dir

from launch.config.errors import CONF, explained
from launch.config.quiet import quieten
from launch.config.schema import Config, register, resolve
from launch.config.splits import with_folds
from launch.named.words import with_profiles
from launch.stages.base_model import SHIPPED, embedded
from launch.stages.digest import home
from launch.stages.inputs import find_model, fingerprint, with_chat_template
from launch.stages.pairs import sources
from recipes.config import UserError
from recipes.data.files import check_source
from recipes.profiles import Dataset, Model
from recipes.system.paths import expanded
from recipes.system.processes import take_children_along


@dataclass(frozen=True)
class Subject:
    """A composed configuration, with its data sets and its tokenizer."""

    config: Config
    parts: list[Dataset]  # a mixture's sources
    tokenizer: Any
    identity: str  # changes when the tokenizer's files do


def find_subject(words: list[str]) -> Subject:
    """Compose the options of a command line as `python -m launch` does, and load the tokenizer.

    Raises:
        UserError: an option, the data set or the model is wrong.
    """
    take_children_along()
    register()
    overrides = with_profiles(words)
    with explained(), initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            config = resolve(compose("config", overrides))
        except ValueError as error:  # raised by Hydra itself, for example for `policy=null`
            raise UserError(f"{' '.join(words)}: {' '.join(str(error).split())}") from None
    if config.options["sft"]["dataset"] is not None:
        raise UserError("sft.dataset: only the pairs are looked at here; remove it (a launch examines it: --check)")
    check_source(config.dataset)
    home(config)  # rejects names that cannot name a file
    config = with_folds(with_chat_template(config))
    parts = sources(config.dataset)
    quieten()
    tokenizer, identity = find_tokenizer(config.model)
    return Subject(config, parts, tokenizer, identity)


def find_tokenizer(model: Model) -> tuple[Any, str]:
    """Return a model's tokenizer and its identity. All sizes of pocket share one, so that none need be pretrained."""
    from recipes.training.tokenizer import load_tokenizer  # imports that take seconds

    if embedded(model):
        return load_tokenizer(model, str(SHIPPED["medium"])), "pocket"
    path = expanded(model.model_name_or_path)
    if (path / "tokenizer_config.json").is_file():  # a tokenizer without its model is enough here
        return load_tokenizer(model, str(path)), fingerprint(path)
    start = find_model(model.model_name_or_path, model.model_revision)
    return load_tokenizer(model, start.path, start.revision), start.identity
