"""Distributions in Optuna's words, and the table of parameters that mixes them with fixed values."""

from collections.abc import Iterator
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

from sfd_sweep.config.mistakes import KeyPath, Mistake, one_of, refuse
from sfd_sweep.config.settings import Settings

Scalar = bool | int | float | str


class _Distribution(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FloatDistribution(_Distribution):
    """A real number in [low, high], uniform in its logarithm if `log`, on a grid if `step`."""

    type: Literal["float"] = "float"
    low: float = Field(description="least value")
    high: float = Field(description="greatest value")
    log: bool = Field(False, description="whether the logarithm is uniform")
    step: float | None = Field(None, gt=0, description="distance of the grid's values from each other; null: no grid")

    @model_validator(mode="after")
    def _range(self) -> "FloatDistribution":
        refuse(_range_mistakes(self.low, self.high, self.log, has_step=self.step is not None))
        return self

    def __str__(self) -> str:
        return f"from {self.low:g} to {self.high:g}"

    def edges(self) -> dict[KeyPath, Scalar]:
        """The values that bound the others, by their path."""
        return {("low",): self.low, ("high",): self.high}

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
        refuse(_range_mistakes(self.low, self.high, self.log, has_step=self.step != 1))
        return self

    def __str__(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def edges(self) -> dict[KeyPath, Scalar]:
        """The values that bound the others, by their path."""
        return {("low",): self.low, ("high",): self.high}

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
        refuse(Mistake(("choices", index), f"{written[index]} is there already; remove one") for index in twice)
        return self

    def __str__(self) -> str:
        return one_of(map(str, self.choices))

    def edges(self) -> dict[KeyPath, Scalar]:
        """All values, by their path."""
        return {("choices", index): choice for index, choice in enumerate(self.choices)}

    def contains(self, value: Any) -> bool:
        """Whether the value can be drawn."""
        return repr(value) in map(repr, self.choices)


Distribution = FloatDistribution | IntDistribution | CategoricalDistribution


def _range_mistakes(low: float, high: float, log: bool, has_step: bool) -> Iterator[Mistake]:
    if low > high:
        yield Mistake(("low",), f"must not be above high ({high:g}), but is {low:g}")
    if log and low <= 0:
        yield Mistake(("low",), f"must be above 0 with log: true, not {low:g}; raise it, or leave log out")
    if log and has_step:
        yield Mistake(("step",), "log and step exclude each other; leave one out")


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
        refuse(
            Mistake((name, "type"), f"must be int or categorical, as {name} is a whole number")
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
    def _diffusion_steps_are_always_ordered(self) -> "_Parameters":
        values = dict(self)
        greatest, least = max(_numbers(values["t_min"])), min(_numbers(values["t_max"]))
        if greatest >= least:
            written = "t_min" if "t_min" in self.model_fields_set else "t_max"
            refuse([Mistake((written,), f"t_min (up to {greatest}) must always be below t_max (from {least})")])
        return self

    def searched(self) -> dict[str, Distribution]:
        """The parameters with a distribution, by name."""
        return {name: value for name, value in self if isinstance(value, Distribution)}

    def fixed(self) -> dict[str, Any]:
        """The parameters with a fixed value (given or default), by name."""
        return {name: value for name, value in self if not isinstance(value, Distribution)}

    def settings(self, sampled: dict[str, Any]) -> Settings:
        """The settings of a trial.

        Args:
            sampled: a value for every searched parameter, by name.

        Raises:
            pydantic.ValidationError: the values do not make valid settings.
        """
        return Settings(**{**self.fixed(), **sampled})


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
