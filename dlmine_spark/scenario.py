"""A scenario: what is known in advance, changed for some series and dates to ask what the forecast would be.

A file of its own, since it says something about the world and nothing about how the work is done::

    name: cheaper_beer
    changes:
      - series: [store_1, store_2]      # all, where it is left out
        from: 2024-06-17                # the whole horizon, where they are left out
        to: 2024-06-23
        set: {promo: 1}
        multiply: {price: 0.9}
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, ValidationError, field_validator, model_validator

from dlmine_spark.config import Scalar, Section, explain_problems, read_yaml
from dlmine_spark.errors import ConfigError
from dlmine_spark.frequency import Moment, from_text

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


class Change(Section):
    """One change of covariates, for some series in some part of the horizon."""

    series: tuple[str, ...] = Field((), description="ids of series; all of them, where there are none")
    first: str | None = Field(None, alias="from", description="first moment; default: the first of the horizon")
    last: str | None = Field(None, alias="to", description="last moment; default: the last of the horizon")
    set_: dict[str, Scalar] = Field(default_factory=dict, alias="set", description="covariates that get a value")
    multiply: dict[str, float] = Field(default_factory=dict, description="covariates that get so many times theirs")
    add: dict[str, float] = Field(default_factory=dict, description="covariates that get so much more")

    @field_validator("first", "last", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        # YAML reads dates as dates, and steps as numbers.
        return None if value is None else str(value)

    @model_validator(mode="after")
    def _changes_something_once(self) -> Change:
        names = [*self.set_, *self.multiply, *self.add]
        if not names:
            raise ValueError("changes nothing: give set, multiply or add, e.g. set: {promo: 1}")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)}: set, multiply and add say different things; give one of them")
        return self

    @property
    def covariates(self) -> tuple[str, ...]:
        """Names of what it changes."""
        return (*self.set_, *self.multiply, *self.add)

    def bounds(self, horizon: tuple[Moment, Moment]) -> tuple[Moment, Moment]:
        """First and last moment, within the horizon.

        Raises:
            ConfigError: they are no moments like the horizon's, or lie outside of it.
        """
        given = {"from": self.first, "to": self.last}
        found = []
        for (key, text), default in zip(given.items(), horizon, strict=True):
            moment = default if text is None else _moment(text, default, key)
            if not horizon[0] <= moment <= horizon[1]:
                raise ConfigError(f"changes.{key}: {text} is outside of the horizon, {horizon[0]} to {horizon[1]}")
            found.append(moment)
        if found[0] > found[1]:
            raise ConfigError(f"changes.from: {found[0]} is after changes.to, {found[1]}")
        return found[0], found[1]


def _moment(text: str, like: Moment, key: str) -> Moment:
    try:
        moment = from_text(text)
    except ValueError:
        moment = None
    if type(moment) is not type(like):
        raise ConfigError(f"changes.{key}: expected a moment such as {like}, got {text!r}")
    return moment


class Scenario(Section):
    """Changes under a name; later ones see what earlier ones left."""

    name: str = Field(description="of the scenario in gold.scenarios: letters, digits, _ and -")
    changes: tuple[Change, ...] = Field(min_length=1, description="one after the other")

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("expected a name of letters, digits, _ and -, at most 64, that begins with a letter")
        return value


def load_scenario(file: Path) -> Scenario:
    """Read and check a scenario.

    Raises:
        ConfigError: naming the file and the key, what was expected and what found.
    """
    content = read_yaml(file)
    try:
        return Scenario.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{file}: {explain_problems(error, {}, Scenario)}") from error
