"""The trials of one pipeline: what to try next, and what was best."""

import math
from dataclasses import dataclass, field
from typing import Any

import optuna

from launch.tuning.space import Range, Space, at_edge, edges, rounded, spread, widen
from recipes.config import UserError

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass
class Search:
    """A search that keeps no state of its own: with equal scores it asks for equal trials again."""

    pipeline: str
    space: Space
    configured: dict[str, float]  # the first trial
    trials: int
    study: optuna.Study = field(default_factory=lambda: optuna.create_study(direction="maximize"))
    asked: list[optuna.trial.Trial] = field(default_factory=list)
    first: Space = field(init=False)
    widened: dict[str, int] = field(default_factory=dict)  # option -> at which edge of the first space: -1 or 1

    def __post_init__(self) -> None:
        """Keep the space before it is widened."""
        self.first = self.space

    def ask(self) -> dict[str, float]:
        """Return the next trial's values.

        The first half of the trials is spread over the space. Then it is widened where the best of them lies at an
        edge, and the rest are those of which the estimator expects most.
        """
        number, half = len(self.asked), self.trials // 2
        if number == 0:
            for values in (self.configured, *spread(self.space, half - 1)):
                self.study.enqueue_trial(values)
        if number == half and self.best:
            self.widen(self.best)
        self.study.sampler = optuna.samplers.TPESampler(  # a trial's own seed: a resumed search goes on as any other
            seed=number, n_startup_trials=half, multivariate=True, constant_liar=True
        )
        trial = self.study.ask({option: distribution(values) for option, values in self.space.items()})
        self.asked.append(trial)
        return rounded(trial.params)

    def widen(self, best: dict[str, float]) -> None:
        """Widen the space where the best trial lies at an edge, and let the trials so far be of the new one.

        The estimator draws from the space that all finished trials have in common: it would never leave the old one.
        """
        self.widened = {option: side for option, side in edges(self.space, best).items() if side}
        self.space = widen(self.space, self.widened)
        ranges = {option: distribution(values) for option, values in self.space.items()}
        done, self.study = self.study.get_trials(), optuna.create_study(direction="maximize")
        for trial in done:
            self.study.add_trial(
                optuna.trial.create_trial(
                    state=trial.state, value=trial.value, params=trial.params, distributions=ranges
                )
            )

    def tell(self, number: int, score: float) -> None:
        """Keep the score of a trial, counted from 0; NaN: it failed."""
        failed = optuna.trial.TrialState.FAIL if math.isnan(score) else None
        self.study.tell(self.asked[number], None if failed else score, failed)

    @property
    def best(self) -> dict[str, float] | None:
        """The best trial's values; None if none has succeeded."""
        done = self.study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
        return rounded(self.study.best_params) if done else None

    def found(self) -> dict[str, Any]:
        """Return what was chosen, its score, what was tried, and the options whose best value lies at an edge of that.

        Raises:
            UserError: every trial failed.
        """
        if not self.best:
            raise UserError(f"tune: all {self.trials} trials of {self.pipeline} failed: see the errors above")
        return {
            "chosen": self.best,
            "score": self.study.best_value,
            "ranges": {
                option: rounded({"low": values.low, "high": values.high}) for option, values in self.space.items()
            },
            "at_edge": at_edge(self.space, self.best, self.untried()),
        }

    def untried(self) -> Space:
        """Return the first ranges of those options that were widened, and of which no trial went beyond the edge."""
        beyond = {
            option: any(side * (trial.params[option] - self.first[option].end(side)) > 0 for trial in self.asked)
            for option, side in self.widened.items()
        }
        return {option: self.first[option] for option, tried in beyond.items() if not tried}


def distribution(values: Range) -> optuna.distributions.BaseDistribution:
    """Return a range in Optuna's form."""
    if values.whole:
        return optuna.distributions.IntDistribution(round(values.low), round(values.high))
    return optuna.distributions.FloatDistribution(values.low, values.high, log=True)
