"""Distributions in Optuna's words, and the table of parameters that mixes them with fixed values."""

from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails

from sfd_sweep.config.config_errors import ConfigError, KeyPath, advice, one_of, raise_config_errors
from sfd_sweep.config.settings import Settings

Scalar = bool | int | float | str


def same(one: Any, other: Any) -> bool:
    """Whether two values of a setting are the same: 1 is 1.0, but not true."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


class _Distribution(BaseModel):
    """What all distributions may have: a condition, under which alone the parameter is drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    when: dict[str, Scalar | tuple[Scalar, ...]] | None = Field(
        None,
        description="draw it only where other parameters have these values: `{loss: score_identity}`, or a list of "
        "values for any of them; null: always",
    )
    otherwise: Scalar | None = Field(None, description="the value where `when` does not hold")

    @model_validator(mode="after")
    def _condition_has_both_halves(self) -> "_Distribution":
        if self.when == {}:
            raise_config_errors([ConfigError(("when",), "names no parameter; name one, or remove it")])
        if self.when and self.otherwise is None:
            raise_config_errors([ConfigError(("otherwise",), "is missing: the value where `when` does not hold")])
        if self.when is None and self.otherwise is not None:
            raise_config_errors([ConfigError(("otherwise",), "needs a condition: add `when`, or remove it")])
        return self

    def conditions(self) -> dict[str, tuple[Scalar, ...]]:
        """The values under which the parameter is drawn, by the name of the parameter that must have one of them."""
        return {name: value if isinstance(value, tuple) else (value,) for name, value in (self.when or {}).items()}

    def applies(self, values: Mapping[str, Any]) -> bool:
        """Whether the parameter is drawn where other parameters have these values."""
        return all(any(same(values[name], value) for value in allowed) for name, allowed in self.conditions().items())

    def in_words(self) -> str:
        """What is drawn, and when."""
        return f"{self} where {self.condition()}, otherwise {self.otherwise}" if self.when else str(self)

    def condition(self) -> str:
        """When it is drawn, in words."""
        allowed = {name: one_of(map(str, values)) for name, values in self.conditions().items()}
        return " and ".join(f"{name} is {values}" for name, values in allowed.items())

    def _with_otherwise(self, edges: dict[KeyPath, Scalar]) -> dict[KeyPath, Scalar]:
        return edges if self.otherwise is None else {**edges, ("otherwise",): self.otherwise}


class FloatDistribution(_Distribution):
    """A real number in [low, high], uniform in its logarithm if `log`, on a grid if `step`."""

    type: Literal["float"] = "float"
    low: float = Field(description="least value")
    high: float = Field(description="greatest value")
    log: bool = Field(False, description="whether the logarithm is uniform")
    step: float | None = Field(None, gt=0, description="distance of the grid's values from each other; null: no grid")

    @model_validator(mode="after")
    def _range(self) -> "FloatDistribution":
        raise_config_errors(_range_mistakes(self.low, self.high, self.log, has_step=self.step is not None))
        return self

    def __str__(self) -> str:
        return f"from {self.low:g} to {self.high:g}"

    def edges(self) -> dict[KeyPath, Scalar]:
        """The values that bound the others, by their path."""
        return self._with_otherwise({("low",): self.low, ("high",): self.high})

    def contains(self, value: Any) -> bool:
        """Whether the value can be drawn."""
        if not isinstance(value, int | float) or isinstance(value, bool) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / self.step if self.step is not None else 0.0
        return abs(steps - round(steps)) < 1e-8


class IntDistribution(_Distribution):
    """An integer in [low, high], uniform in its logarithm if `log`, on a grid if `step`."""

    type: Literal["int"] = "int"
    low: int = Field(description="least value")
    high: int = Field(description="greatest value")
    log: bool = Field(False, description="whether the logarithm is uniform")
    step: int = Field(1, gt=0, description="distance of the values from each other")

    @model_validator(mode="after")
    def _range(self) -> "IntDistribution":
        raise_config_errors(_range_mistakes(self.low, self.high, self.log, has_step=self.step != 1))
        return self

    def __str__(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def edges(self) -> dict[KeyPath, Scalar]:
        """The values that bound the others, by their path."""
        return self._with_otherwise({("low",): self.low, ("high",): self.high})

    def contains(self, value: Any) -> bool:
        """Whether the value can be drawn."""
        return type(value) is int and self.low <= value <= self.high and (value - self.low) % self.step == 0


class CategoricalDistribution(_Distribution):
    """One of `choices`, in no order."""

    type: Literal["categorical"] = "categorical"
    choices: tuple[Scalar, ...] = Field(min_length=1, description="the values to choose from")

    @model_validator(mode="after")
    def _distinct(self) -> "CategoricalDistribution":
        written = list(map(repr, self.choices))
        twice = [index for index, choice in enumerate(written) if choice in written[:index]]
        raise_config_errors(
            ConfigError(("choices", index), f"{written[index]} is there already; remove one") for index in twice
        )
        return self

    def __str__(self) -> str:
        return one_of(map(str, self.choices))

    def edges(self) -> dict[KeyPath, Scalar]:
        """All values, by their path."""
        return self._with_otherwise({("choices", index): choice for index, choice in enumerate(self.choices)})

    def contains(self, value: Any) -> bool:
        """Whether the value can be drawn."""
        return repr(value) in map(repr, self.choices)


Distribution = FloatDistribution | IntDistribution | CategoricalDistribution


def _range_mistakes(low: float, high: float, log: bool, has_step: bool) -> Iterator[ConfigError]:
    if low > high:
        yield ConfigError(("low",), f"must not be above high ({high:g}), but is {low:g}")
    if log and low <= 0:
        yield ConfigError(("low",), f"must be above 0 with log: true, not {low:g}; raise it, or leave log out")
    if log and has_step:
        yield ConfigError(("step",), "log and step exclude each other; leave one out")


def _setting_type(field: FieldInfo) -> Any:
    """The type of a setting, with the bounds that its field sets."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _setting_errors(name: str, distribution: Distribution) -> Iterator[InitErrorDetails]:
    """What the setting itself, which knows its own type and range, finds wrong with the edges of a distribution."""
    setting: TypeAdapter[Any] = TypeAdapter(_setting_type(Settings.model_fields[name]))
    for path, value in distribution.edges().items():
        try:
            setting.validate_python(value, strict=True)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                yield InitErrorDetails(type=detail["type"], loc=(name, *path), input=value, ctx=detail.get("ctx", {}))


def _condition_mistakes(name: str, searched: Mapping[str, Distribution]) -> Iterator[ConfigError]:
    """Conditions that never hold, or of which nobody knows when they do."""
    for other, values in searched[name].conditions().items():
        path, condition = (name, "when", other), searched.get(other)
        if other not in Settings.model_fields:
            yield ConfigError(path, f"unknown parameter{advice(other, [found for found in searched if found != name])}")
        elif condition is None:
            yield ConfigError(path, f"{other} is not searched, so it never changes; remove the condition")
        elif not isinstance(condition, CategoricalDistribution):
            yield ConfigError(path, f"only a categorical parameter can be a condition, and {other} is {condition.type}")
        else:
            possible = condition.edges().values()
            wrong = [value for value in values if not any(same(value, choice) for choice in possible)]
            if wrong:
                yield ConfigError(
                    path, f"must be {one_of(map(str, possible))} as in parameters.{other}, not {wrong[0]!r}"
                )


def _numbers(value: Any) -> list[Any]:
    """The edges of a numeric parameter: its own value if it is fixed."""
    return list(value.edges().values()) if isinstance(value, Distribution) else [value]


def _kind(value: Any) -> str:
    if isinstance(value, Distribution):
        return value.type
    return str(value.get("type", "without type")) if isinstance(value, dict) else "fixed"


def _parameter(annotation: Any) -> Any:
    """The type of one parameter: a fixed value of the setting's own type, or a distribution over it."""
    return Annotated[
        Annotated[annotation, Tag("fixed")]
        | Annotated[FloatDistribution, Tag("float")]
        | Annotated[IntDistribution, Tag("int")]
        | Annotated[CategoricalDistribution, Tag("categorical")],
        Discriminator(_kind),
    ]


class _Parameters(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="after")
    def _distributions_give_valid_settings(self) -> "_Parameters":
        raise_config_errors(
            ConfigError((name, "type"), f"must be int or categorical, as {name} is a whole number")
            for name, distribution in self.searched().items()
            if isinstance(distribution, FloatDistribution) and Settings.model_fields[name].annotation is int
        )
        errors = [
            error for name, distribution in self.searched().items() for error in _setting_errors(name, distribution)
        ]
        if errors:
            raise ValidationError.from_exception_data("parameters", errors)
        return self

    @model_validator(mode="after")
    def _conditions_can_hold(self) -> "_Parameters":
        searched = self.searched()
        raise_config_errors(mistake for name in searched for mistake in _condition_mistakes(name, searched))
        try:
            drawing_order(searched)
        except CycleError as error:
            first, *others = reversed(error.args[1])
            raise_config_errors(
                [
                    ConfigError(
                        (first, "when"), f"{first} waits for {', which waits for '.join(others)}; break the circle"
                    )
                ]
            )
        return self

    @model_validator(mode="after")
    def _diffusion_steps_are_always_ordered(self) -> "_Parameters":
        values = dict(self)
        greatest, least = max(_numbers(values["t_min"])), min(_numbers(values["t_max"]))
        if greatest >= least:
            written = "t_min" if "t_min" in self.model_fields_set else "t_max"
            raise_config_errors(
                [ConfigError((written,), f"t_min (up to {greatest}) must always be below t_max (from {least})")]
            )
        return self

    def searched(self) -> dict[str, Distribution]:
        """The parameters with a distribution, by name."""
        return {name: value for name, value in self if isinstance(value, Distribution)}

    def draw(self, suggest: Callable[[str, Distribution], Any]) -> dict[str, Any]:
        """The searched parameters of a trial, each drawn after those that its condition names.

        Args:
            suggest: draws a value, by the parameter's name, from its distribution; it is not asked for a parameter
                whose condition does not hold.

        Returns:
            A value for every searched parameter, by name: what was drawn, or what it is otherwise.
        """
        searched, values = self.searched(), dict[str, Any]()
        for name in drawing_order(searched):
            distribution = searched[name]
            values[name] = suggest(name, distribution) if distribution.applies(values) else distribution.otherwise
        return values

    def drawn(self, settings: Settings) -> dict[str, Any]:
        """The values of the parameters that a trial with these settings has drawn, by name."""
        values = dict(settings)
        searched = self.searched().items()
        return {name: values[name] for name, distribution in searched if distribution.applies(values)}

    def fixed(self) -> dict[str, Any]:
        """The parameters with a fixed value (given or default), by name."""
        return {name: value for name, value in self if not isinstance(value, Distribution)}

    def settings(self, sampled: dict[str, Any]) -> Settings:
        """The settings of a trial.

        Args:
            sampled: a value for every searched parameter whose condition holds, by name.

        Raises:
            pydantic.ValidationError: the values do not make valid settings.
        """
        otherwise = {
            name: distribution.otherwise for name, distribution in self.searched().items() if distribution.when
        }
        return Settings(**{**self.fixed(), **otherwise, **sampled})


def drawing_order(searched: Mapping[str, Distribution]) -> list[str]:
    """The parameters in their order, but each after those that its condition names.

    Raises:
        graphlib.CycleError: two of them wait for each other.
    """
    return list(TopologicalSorter({name: searched[name].conditions() for name in searched}).static_order())


if TYPE_CHECKING:

    class Parameters(_Parameters):
        """Every setting of a trial, fixed or with a distribution; the fields are those of `Settings`."""

else:
    Parameters = create_model(
        "Parameters",
        __base__=_Parameters,
        __doc__="Every setting of a trial, fixed or with a distribution.",
        **{
            name: (
                _parameter(_setting_type(field)),
                Field(field.default, description=field.description),
            )
            for name, field in Settings.model_fields.items()
        },
    )
