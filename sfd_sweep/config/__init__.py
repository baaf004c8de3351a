"""The search-space file: its models, loading, and error messages."""

from sfd_sweep.config.loading import (
    dump_search_space,
    json_schema,
    load_search_space,
    parse_search_space,
    with_overrides,
)
from sfd_sweep.config.parameters import (
    CategoricalDistribution,
    Distribution,
    FloatDistribution,
    IntDistribution,
    Parameters,
)
from sfd_sweep.config.schema import (
    AshaScheduler,
    Bound,
    Budget,
    Constraint,
    Evaluation,
    Inception,
    MultiObjectiveAshaScheduler,
    NoScheduler,
    Objective,
    Prompts,
    Resources,
    Search,
    Task,
    TeacherSamples,
    Tracking,
    TrialSchedule,
)
from sfd_sweep.config.search_space import REFERENCES, SearchSpace
from sfd_sweep.config.settings import Override, Settings

__all__ = [
    "REFERENCES",
    "AshaScheduler",
    "Bound",
    "Budget",
    "CategoricalDistribution",
    "Constraint",
    "Distribution",
    "Evaluation",
    "FloatDistribution",
    "Inception",
    "IntDistribution",
    "MultiObjectiveAshaScheduler",
    "NoScheduler",
    "Objective",
    "Override",
    "Parameters",
    "Prompts",
    "Resources",
    "Search",
    "SearchSpace",
    "Settings",
    "Task",
    "TeacherSamples",
    "Tracking",
    "TrialSchedule",
    "dump_search_space",
    "json_schema",
    "load_search_space",
    "parse_search_space",
    "with_overrides",
]
