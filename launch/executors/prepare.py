"""Before a job trains: check the machine, find the initial checkpoint, tokenize what there is to train on."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launch.config.judging import TRAINED, judge_of
from launch.config.schema import Config
from launch.config.trust import follows, unpinned
from launch.forecast.budget import trainings
from launch.forecast.fit import check_memory
from launch.forecast.tokens import Tokens, counted
from launch.stages.base_model import find_base
from launch.stages.demonstrations import demonstrations_of, prepare_demonstrations
from launch.stages.digest import Demonstrations, Start
from launch.stages.gold import check_gold
from launch.stages.inputs import asked_reward_model, check_cache, check_reads, check_room
from launch.stages.judge import check_judge
from launch.stages.pairs import describe_rows, prepare_pairs
from launch.stages.rehearsal import outline, prepared, rehearse
from launch.stages.run import say
from launch.stages.unpaired import check_rows, unbalanced
from recipes.config import read_json
from recipes.system.commands import console


@dataclass(frozen=True)
class Prepared:
    """What all pipelines of a job start from and train on."""

    start: Start
    reward: Start | None  # the reward model that `rloo.reward_model` names
    pairs: Path
    manifest: dict[str, Any]  # of the pairs
    demonstrations: Demonstrations | None  # that SFT trains on instead of the pairs

    @property
    def tokens(self) -> Tokens:
        """What there is to train on."""
        found = counted(self.manifest)
        return replace(found, demonstrations=counted(self.shown)) if self.shown else found

    @property
    def counts(self) -> dict[str, int]:
        """The rows of each split, of the demonstrations, and of stages that train on unpaired responses too."""
        more = {stage: found.pairs for stage, found in self.tokens.with_unpaired.items()}
        return self.manifest["pairs"] | more | ({"demonstrations": self.shown["pairs"]["train"]} if self.shown else {})

    @property
    def shown(self) -> dict[str, Any] | None:
        """The demonstrations' manifest."""
        return read_json(self.demonstrations.directory / "manifest.json") if self.demonstrations else None


def prepare(config: Config) -> Prepared:
    """Check memory and options, find or make the initial checkpoint, check the disk, and prepare the pairs.

    In the order of cost: what is known at once is reported before minutes of pretraining and tokenizing.

    Raises:
        UserError: something is missing, cannot be used or does not fit.
    """
    check_memory(config)
    check_cache(config)
    reward = asked_reward_model(config)
    shown = demonstrations_of(config)  # a wrong name is reported before anything is prepared
    new = not prepared(config)
    if new:  # else the stages are rehearsed when they are known, if any is left to train
        rehearse(config, outline(config, reward))
    for line in unpinned(config):
        say(line)
    if shown and (line := follows(shown)):
        say(f"{line}: pin its revision in a profile of conf/demonstrations to have the same rows")
    start = find_base(config)
    if new:  # else some stages may be trained already, and are known only later
        every = trainings(config, {name: config.of(name) for name in config.pipelines})
        check_room(config, start, len(every) + (judge_of(config) == TRAINED))
    pairs = prepare_pairs(config, start, say)
    console.print(f"       {config.dataset.name}: {describe_rows(pairs)}", soft_wrap=True)
    manifest = read_json(pairs / "manifest.json")
    check_rows(config, manifest)
    if advice := unbalanced(config, manifest):
        say(advice)
    check_judge(config, pairs)
    check_gold(config, pairs)
    if reward:
        check_reads(config, reward, pairs)
    demonstrations = prepare_demonstrations(config, start, pairs, say)
    if demonstrations:
        console.print(f"       for SFT: {describe_rows(demonstrations.directory)}", soft_wrap=True)
    return Prepared(start, reward, pairs, manifest, demonstrations)
