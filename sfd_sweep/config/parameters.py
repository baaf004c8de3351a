"""Distributions in Optuna's terms, and the `parameters` section that mixes them with fixed values."""

import json
from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    Tag,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails

from sfd_sweep.config.config_errors import (
    ConfigError,
    KeyPath,
    advice,
    one_of,
    raise_config_error,
    raise_config_errors,
)
from sfd_sweep.config.settings import Settings

Scalar = bool | int | float | str


def same(one: Any, other: Any) -> bool:
    """Return whether two values of a setting are equal: 1 equals 1.0, but not true."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


class _Distribution(BaseModel):
    """A distribution with an optional condition."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    when: dict[str, Scalar | tuple[Scalar, ...]] | None = None
    """Values of other parameters under which the parameter is drawn: `{loss: score_identity}`, or a list of values for
    each; null: it is always drawn."""
    otherwise: Scalar | None = None
    """Value where `when` does not hold."""

    @model_validator(mode="after")
    def _condition_is_complete(self) -> "_Distribution":
        if self.when == {}:
            raise_config_error(("when",), "names no parameter; name one, or remove it")
        if self.when and self.otherwise is None:
            raise_config_error(("otherwise",), "is missing: the value where `when` does not hold")
        if self.when is None and self.otherwise is not None:
            raise_config_error(("otherwise",), "needs a condition: add `when`, or remove it")
        return self

    def edges(self) -> dict[KeyPath, Scalar]:
        """Return the extreme values of the parameter, by path: all choices or both ends, and `otherwise`."""
        return self._bounds() if self.otherwise is None else {**self._bounds(), ("otherwise",): self.otherwise}

    def _bounds(self) -> dict[KeyPath, Scalar]:
        raise NotImplementedError

    def conditions(self) -> dict[str, tuple[Scalar, ...]]:
        """Return the values under which the parameter is drawn, by the name of the other parameter."""
        return {name: value if isinstance(value, tuple) else (value,) for name, value in (self.when or {}).items()}

    def applies(self, values: Mapping[str, Any]) -> bool:
        """Return whether the parameter is drawn where other parameters have these values."""
        return all(any(same(values[name], value) for value in allowed) for name, allowed in self.conditions().items())

    def in_words(self) -> str:
        """Return the distribution and its condition in words."""
        return f"{self} where {self.condition()}, otherwise {self.otherwise}" if self.when else str(self)

    def condition(self) -> str:
        """Return the condition in words."""
        allowed = {name: one_of(map(str, values)) for name, values in self.conditions().items()}
        return " and ".join(f"{name} is {values}" for name, values in allowed.items())


class _Range(_Distribution):
    """A range of numbers."""

    low: float
    """Lowest value."""
    high: float
    """Highest value."""
    log: bool = False
    """Whether the logarithm is uniform."""
    step: PositiveFloat | None = None
    """Distance between the values of a grid; null: no grid."""

    @model_validator(mode="after")
    def _is_a_range(self) -> "_Range":
        if self.low > self.high:
            raise_config_error(("low",), f"must not be above high ({self.high:g}), but is {self.low:g}")
        if self.log and self.low <= 0:
            raise_config_error(("low",), f"must be above 0 with log: true, not {self.low:g}; raise it, or remove log")
        if self.log and self.step != type(self).model_fields["step"].default:
            raise_config_error(("step",), "log and step exclude each other; remove one")
        return self

    def _bounds(self) -> dict[KeyPath, Scalar]:
        return {("low",): self.low, ("high",): self.high}


class FloatDistribution(_Range):
    """A real number in [low, high], uniform in its logarithm if `log`, on a grid if `step`."""

    type: Literal["float"] = "float"

    def __str__(self) -> str:
        return f"from {self.low:g} to {self.high:g}"

    def contains(self, value: Any) -> bool:
        """Return whether the value can be drawn."""
        if not isinstance(value, int | float) or isinstance(value, bool) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / self.step if self.step is not None else 0.0
        return abs(steps - round(steps)) < 1e-8


class IntDistribution(_Range):
    """An integer in [low, high], uniform in its logarithm if `log`, on a grid if `step`."""

    type: Literal["int"] = "int"
    low: int
    """Lowest value."""
    high: int
    """Highest value."""
    step: PositiveInt = 1
    """Distance between the values."""

    def __str__(self) -> str:
        return f"an integer from {self.low} to {self.high}"

    def contains(self, value: Any) -> bool:
        """Return whether the value can be drawn."""
        return type(value) is int and self.low <= value <= self.high and (value - self.low) % self.step == 0


class CategoricalDistribution(_Distribution):
    """One of `choices`, which have no order."""

    type: Literal["categorical"] = "categorical"
    choices: Annotated[tuple[Scalar, ...], Field(min_length=1)]
    """Possible values."""

    @model_validator(mode="after")
    def _distinct(self) -> "CategoricalDistribution":
        written = list(map(repr, self.choices))
        raise_config_errors(
            ConfigError(("choices", index), f"{choice} is a duplicate; remove one")
            for index, choice in enumerate(written)
            if choice in written[:index]
        )
        return self

    def __str__(self) -> str:
        return one_of(map(str, self.choices))

    def _bounds(self) -> dict[KeyPath, Scalar]:
        return {("choices", index): choice for index, choice in enumerate(self.choices)}

    def contains(self, value: Any) -> bool:
        """Return whether the value can be drawn."""
        return repr(value) in map(repr, self.choices)


Distribution = FloatDistribution | IntDistribution | CategoricalDistribution


def setting_type(field: FieldInfo) -> Any:
    """Return the type of a setting, with the bounds of its field."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _setting_errors(name: str, distribution: Distribution) -> Iterator[InitErrorDetails]:
    """Validate the extreme values of a distribution with the field of the setting."""
    setting: TypeAdapter[Any] = TypeAdapter(setting_type(Settings.model_fields[name]))
    for path, value in distribution.edges().items():
        try:
            setting.validate_python(value, strict=True)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                yield InitErrorDetails(type=detail["type"], loc=(name, *path), input=value, ctx=detail.get("ctx", {}))


def _condition_errors(name: str, searched: Mapping[str, Distribution]) -> Iterator[ConfigError]:
    """Find conditions that never hold, or that depend on something other than a categorical parameter."""
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
                allowed = one_of(map(str, possible))
                yield ConfigError(path, f"must be {allowed} as in parameters.{other}, not {wrong[0]!r}")


def _ownership_errors(values: Mapping[str, Any]) -> Iterator[ConfigError]:
    """Find settings that no trial reads, and searched ones that are drawn for methods that do not read them.

    Args:
        values: Of all parameters; those with their default values are not reported.
    """
    used = _extremes(values["method"])
    for name, value in values.items():
        owners = Settings.methods_of(name)
        if value == Settings.model_fields[name].default or set(used) <= set(owners):
            continue
        whose, given = f"is a setting of {one_of(owners)}", one_of(dict.fromkeys(used))
        if not set(used) & set(owners):
            yield ConfigError((name,), f"{whose}, and parameters.method is {given}; remove it, or change the method")
        elif isinstance(value, Distribution) and not set(value.conditions().get("method", used)) <= set(owners):
            wanted = [method for method in used if method in owners]
            when = wanted[0] if len(wanted) == 1 else f"[{', '.join(wanted)}]"
            default = json.dumps(Settings.model_fields[name].default)
            advised = f"when: {{method: {when}}}, otherwise: {default}"
            yield ConfigError((name,), f"{whose}, and parameters.method is {given}; add `{advised}`")


def _extremes(value: Any) -> list[Any]:
    """Return the extreme values of a numeric parameter: the value itself if it is fixed."""
    return list(value.edges().values()) if isinstance(value, Distribution) else [value]


class _Parameters(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="after")
    def _distributions_give_valid_settings(self) -> "_Parameters":
        searched = self.searched()
        raise_config_errors(
            ConfigError((name, "type"), f"must be int or categorical, as {name} is an integer")
            for name, distribution in searched.items()
            if isinstance(distribution, FloatDistribution) and Settings.model_fields[name].annotation is int
        )
        errors = [error for name, distribution in searched.items() for error in _setting_errors(name, distribution)]
        if errors:
            raise ValidationError.from_exception_data("parameters", errors)
        return self

    @model_validator(mode="after")
    def _conditions_can_hold(self) -> "_Parameters":
        searched = self.searched()
        raise_config_errors(error for name in searched for error in _condition_errors(name, searched))
        try:
            drawing_order(searched)
        except CycleError as error:
            first, *others = reversed(error.args[1])
            cycle = ", which depends on ".join(others)
            raise_config_error((first, "when"), f"{first} depends on {cycle}; remove one of the conditions")
        return self

    @model_validator(mode="after")
    def _settings_suit_the_methods(self) -> "_Parameters":
        raise_config_errors(_ownership_errors(dict(self)))
        return self

    @model_validator(mode="after")
    def _diffusion_steps_are_always_ordered(self) -> "_Parameters":
        values = dict(self)
        highest, lowest = max(_extremes(values["t_min"])), min(_extremes(values["t_max"]))
        if highest >= lowest:
            written = "t_min" if "t_min" in self.model_fields_set else "t_max"
            raise_config_error((written,), f"t_min (up to {highest}) must always be below t_max (from {lowest})")
        return self

    def searched(self) -> dict[str, Distribution]:
        """Return the distributions of the searched parameters, by name."""
        return {name: value for name, value in self if isinstance(value, Distribution)}

    def fixed(self) -> dict[str, Any]:
        """Return the fixed values, given or default, by name."""
        return {name: value for name, value in self if not isinstance(value, Distribution)}

    def draw(self, suggest: Callable[[str, Distribution], Any]) -> dict[str, Any]:
        """Draw the searched parameters of a trial, each after the parameters in its condition.

        Args:
            suggest: Draws a value by name and distribution; it is not called where the condition does not hold.

        Returns:
            A value for each searched parameter: the drawn one, or `otherwise`.
        """
        searched, values = self.searched(), dict[str, Any]()
        for name in drawing_order(searched):
            distribution = searched[name]
            values[name] = suggest(name, distribution) if distribution.applies(values) else distribution.otherwise
        return values

    def drawn(self, settings: Settings) -> dict[str, Any]:
        """Return the values of the parameters that a trial with these settings has drawn, by name."""
        values = dict(settings)
        searched = self.searched().items()
        return {name: values[name] for name, distribution in searched if distribution.applies(values)}

    def settings(self, sampled: dict[str, Any]) -> Settings:
        """Return the settings of a trial.

        Args:
            sampled: A value for each searched parameter whose condition holds, by name.

        Raises:
            pydantic.ValidationError: The values do not make valid settings.
        """
        otherwise = {
            name: distribution.otherwise for name, distribution in self.searched().items() if distribution.when
        }
        return Settings(**{**self.fixed(), **otherwise, **sampled})


def drawing_order(searched: Mapping[str, Distribution]) -> list[str]:
    """Return the names in order, each after the parameters in its condition.

    Raises:
        graphlib.CycleError: The conditions form a cycle.
    """
    return list(TopologicalSorter({name: searched[name].conditions() for name in searched}).static_order())


def _kind(value: Any) -> str:
    if isinstance(value, Distribution):
        return value.type
    return str(value.get("type", "without type")) if isinstance(value, dict) else "fixed"


def _parameter(annotation: Any) -> Any:
    """Return the type of a parameter: a fixed value of the setting's own type, or a distribution."""
    return Annotated[
        Annotated[annotation, Tag("fixed")]
        | Annotated[FloatDistribution, Tag("float")]
        | Annotated[IntDistribution, Tag("int")]
        | Annotated[CategoricalDistribution, Tag("categorical")],
        Discriminator(_kind),
    ]


if TYPE_CHECKING:

    class Parameters(_Parameters):
        """Hyperparameters of the method; the fields are those of `Settings`."""

else:
    Parameters = create_model(
        "Parameters",
        __base__=_Parameters,
        __doc__="Hyperparameters of the method. Each is a value, or a distribution to search: "
        "`generator_lr: {type: float, low: 1.0e-5, high: 1.0e-3, log: true}`.",
        **{
            name: (
                _parameter(setting_type(field)),
                Field(field.default, description=field.description, json_schema_extra=field.json_schema_extra),
            )
            for name, field in Settings.model_fields.items()
        },
    )
