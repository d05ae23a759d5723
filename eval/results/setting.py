"""A setting: the values of the options in which a session's jobs differ, apart from seeds."""

from collections.abc import Iterable
from typing import Any

from eval.results.options import text


class Setting(dict[str, Any]):
    """Option -> value; its text is in command-line syntax."""

    def __str__(self) -> str:
        return " ".join(f"{name}={text(value)}" for name, value in self.items())

    @property
    def model(self) -> str | None:
        """Its base model, where the session has several."""
        return self.get("model")

    def within(self, other: "Setting") -> bool:
        """Whether another setting has all values of this one; a base model belongs to all such settings."""
        return self.items() <= other.items()

    def without(self, other: "Setting") -> "Setting":
        """Return the values that another setting lacks."""
        return Setting({name: value for name, value in self.items() if (name, value) not in other.items()})


def shared(settings: Iterable[Setting]) -> Setting:
    """Return the values that all settings share."""
    first, *others = settings
    return Setting(
        {name: value for name, value in first.items() if all((name, value) in one.items() for one in others)}
    )


def settings_of(jobs: list[dict[str, Any]]) -> list[Setting]:
    """Return each job's setting, as the launcher wrote it; for older jobs, the words that not all of them share."""
    if all("setting" in job for job in jobs):
        return [Setting(job["setting"]) for job in jobs]
    given = [Setting(word.lstrip("+").partition("=")[::2] for word in job["overrides"]) for job in jobs]
    return [one.without(shared(given)) for one in given]
