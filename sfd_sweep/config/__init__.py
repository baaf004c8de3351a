"""The search-space file: what it may say, how it is read, and the words for its mistakes."""

from sfd_sweep.config.loading import dump_search_space, json_schema, load_search_space, parse_search_space
from sfd_sweep.config.metrics import METRICS, Goal, Metric, ReferenceKind, Scale, reported
from sfd_sweep.config.parameters import (
    CategoricalDistribution,
    Distribution,
    FloatDistribution,
    IntDistribution,
    Parameters,
)
from sfd_sweep.config.search_space import (
    AshaScheduler,
    Budget,
    Constraint,
    Evaluation,
    Inception,
    MultiObjectiveAshaScheduler,
    NoScheduler,
    Objective,
    Resources,
    Search,
    SearchSpace,
    Task,
    TeacherSamples,
    Tracking,
    TrialBudget,
)
from sfd_sweep.config.settings import Override, Settings

__all__ = [
    "METRICS",
    "AshaScheduler",
    "Budget",
    "CategoricalDistribution",
    "Constraint",
    "Distribution",
    "Evaluation",
    "FloatDistribution",
    "Goal",
    "Inception",
    "IntDistribution",
    "Metric",
    "MultiObjectiveAshaScheduler",
    "NoScheduler",
    "Objective",
    "Override",
    "Parameters",
    "ReferenceKind",
    "Resources",
    "Scale",
    "Search",
    "SearchSpace",
    "Settings",
    "Task",
    "TeacherSamples",
    "Tracking",
    "TrialBudget",
    "dump_search_space",
    "json_schema",
    "load_search_space",
    "parse_search_space",
    "reported",
]
