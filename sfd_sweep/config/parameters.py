"""Distributions in Optuna's words, and the table of parameters that mixes them with fixed values."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, create_model, model_validator

from sfd_sweep.config.settings import Settings

Scalar = bool | int | float | str


class _Distribution(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FloatDistribution(_Distribution):
    """A real number in [low, high], uniform in its logarithm if `log`, on a grid if `step`."""

    type: Literal["float"] = "float"
    low: float
    high: float
    log: bool = False
    step: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _range(self) -> "FloatDistribution":
        _check_range(self.low, self.high, self.log, self.step)
        return self


class IntDistribution(_Distribution):
    """An integer in [low, high], uniform in its logarithm if `log`, on a grid if `step`."""

    type: Literal["int"] = "int"
    low: int
    high: int
    log: bool = False
    step: int = Field(1, gt=0)

    @model_validator(mode="after")
    def _range(self) -> "IntDistribution":
        _check_range(self.low, self.high, self.log, self.step if self.step != 1 else None)
        return self


class CategoricalDistribution(_Distribution):
    """One of `choices`, in no order."""

    type: Literal["categorical"] = "categorical"
    choices: tuple[Scalar, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> "CategoricalDistribution":
        if len(set(map(repr, self.choices))) < len(self.choices):
            raise ValueError("choices has the same value twice")
        return self


Distribution = FloatDistribution | IntDistribution | CategoricalDistribution


def _check_range(low: float, high: float, log: bool, step: float | None) -> None:
    if low > high:
        raise ValueError(f"low ({low}) is above high ({high})")
    if log and low <= 0:
        raise ValueError(f"a logarithmic range needs low above 0, not {low}")
    if log and step is not None:
        raise ValueError("log and step exclude each other")


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
    model_config = ConfigDict(frozen=True, extra="forbid")

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
                _parameter(Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation),
                Field(field.default, description=field.description),
            )
            for name, field in Settings.model_fields.items()
        },
    )
