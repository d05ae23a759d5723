"""The trials of one pipeline: what to try next, and what was best."""

import math
from dataclasses import dataclass, field
from typing import Any

import optuna

from launch.tuning.space import Space, at_edge, rounded, spread, widen
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
            self.space = widen(self.space, self.best)
        self.study.sampler = optuna.samplers.TPESampler(  # a trial's own seed: a resumed search goes on as any other
            seed=number, n_startup_trials=half, multivariate=True, constant_liar=True
        )
        trial = self.study.ask()
        for option, values in self.space.items():
            if values.whole:
                trial.suggest_int(option, round(values.low), round(values.high))
            else:
                trial.suggest_float(option, values.low, values.high, log=True)
        self.asked.append(trial)
        return rounded(trial.params)

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
            "at_edge": at_edge(self.space, self.best),
        }
