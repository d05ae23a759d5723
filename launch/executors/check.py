"""`--check`: all that a launch checks before it trains, and nothing else."""

from launch.config.parallelism import check_installed
from launch.config.schema import Config
from launch.config.splits import with_folds
from launch.executors.job import Outcome
from launch.executors.prepare import prepare
from launch.forecast.ahead import only_warming_up, too_few_prompts
from launch.forecast.budget import match
from launch.stages.base_model import check_source, pretrained_before
from launch.stages.demonstrations import demonstrations_of
from launch.stages.digest import plan
from launch.stages.inputs import asked_reward_model, check_room, with_chat_template
from launch.stages.judge import plan_judge
from launch.stages.processes import call
from launch.stages.rehearsal import outline, rehearse
from launch.stages.run import say
from launch.stages.stale import refuse_stale
from recipes.config import done


def check_pipelines(config: Config, outcome: Outcome) -> None:
    """Check what `train_pipelines` checks, in its order; tokenize the pairs, train nothing.

    A base model that would be pretrained first is left to the launch, and with it what needs its tokenizer.

    Raises:
        UserError: as in `train_pipelines`.
    """
    check_installed(config.hardware.strategy)
    config = with_folds(with_chat_template(config))
    demonstrations_of(config)
    rehearse(config, outline(config, asked_reward_model(config)))
    if not pretrained_before(config):
        call(check_source, config)
        say("checked; a launch would first pretrain the base model, and train all stages")
        return
    ready = prepare(config)
    fingerprint = ready.manifest["fingerprint"]
    configs, _ = match(config, ready.tokens)
    stages, _ = plan_judge(config, ready.start, ready.pairs, fingerprint)
    for name, names in config.pipelines.items():
        stages += plan(configs[name], names, ready.start, ready.pairs, fingerprint, ready.reward, ready.demonstrations)
    check_room(config, ready.start, len({stage.directory for stage in stages if not done(stage.directory)}))
    for line in (*only_warming_up(stages, ready.counts), *too_few_prompts(config, ready.counts)):
        say(line)
    for stage in {stage.directory: stage for stage in stages}.values():
        refuse_stale(stage)
        say(f"{stage.directory}: {'trained before' if done(stage.directory) else 'would be trained'}")
    say("checked; nothing was trained")
