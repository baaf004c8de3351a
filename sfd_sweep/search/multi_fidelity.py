"""Multi-fidelity Bayesian optimization under several objectives and constraints, as a sampler of Optuna's.

Gaussian processes over settings and training steps model every objective and constraint. They are fitted to the reports
of all trials: complete, stopped, and running ones. The proposal has the largest expected hypervolume improvement at the
full number of steps. Running trials count with the outcome that the model expects of them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import qmc

from sfd_sweep.config import SearchSpace
from sfd_sweep.search.distributions import to_optuna
from sfd_sweep.search.encoding import KnownTrial, Points, SettingsEncoding
from sfd_sweep.search.stored_reports import stored_reports

if TYPE_CHECKING:
    from sfd_sweep.search.surrogate import Surrogate

CANDIDATES = 512
"""Points of a Sobol sequence, and as many near good trials, among which the best is proposed."""
LOCAL_SCALES = (0.2, 0.05, 0.01)
"""Standard deviations of steps from good trials, in the unit cube."""
REFINED = 8
"""Number of the best candidates from which another round of steps starts."""


class MultiFidelitySampler(BaseSampler):
    """Proposes settings by what the reports of all trials say about the end of a new one.

    The first trials, about twice the square root of the number of parameters, are points of a Sobol sequence.

    Args:
        space: the sweep.
        seed: of the proposal.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._encoding = SettingsEncoding(space)
        self._random = np.random.default_rng(seed)

    def infer_relative_search_space(self, _study: optuna.Study, _trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return all searched parameters: a trial draws those whose conditions hold."""
        return {name: to_optuna(part) for name, part in self._space.parameters.searched().items()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, _search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the proposal."""
        trials = self._known([known for known in study.get_trials(deepcopy=False) if known.number != trial.number])
        names = {part.metric for part in self._space.objectives} | {part.metric for part in self._space.constraints}
        first = math.ceil(2 * math.sqrt(self._encoding.columns))
        if len(trials) < first or not any(known.finite_reports(names) for known in trials):
            return self._spread(trial.number)
        return self._best(trials)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        """Return a random value: of a parameter whose condition only holds by settings that the file tries first."""
        random = RandomSampler(seed=int(self._random.integers(2**31)))
        return random.sample_independent(study, trial, name, distribution)

    def _known(self, trials: Sequence[FrozenTrial]) -> list[KnownTrial]:
        """Return the trials that have begun, without those that only repeat the settings of another."""
        begun = [trial for trial in trials if trial.state is not TrialState.WAITING]
        known: dict[bytes, KnownTrial] = {}
        for point, trial in zip(self._encoding.encode([trial.params for trial in begun]), begun, strict=True):
            known.setdefault(point.tobytes(), KnownTrial(point, trial.state, stored_reports(trial)))
        return list(known.values())

    def _spread(self, number: int) -> dict[str, Any]:
        """Return a point of the sweep's Sobol sequence."""
        sequence = qmc.Sobol(self._encoding.columns, scramble=True, rng=self._space.search.seed)
        return self._encoding.decode(sequence.random_base2(number.bit_length())[[number]])[0]

    def _best(self, trials: Sequence[KnownTrial]) -> dict[str, Any]:
        """Return what has the largest expected improvement."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # linear_operator uses what torch has deprecated
            from sfd_sweep.search.surrogate import Surrogate

        known = np.array([trial.point for trial in trials])
        surrogate = Surrogate(self._space, self._encoding.choices, trials, int(self._random.integers(2**31)))
        good = known[surrogate.best_trials(REFINED)]
        points, scores = self._scored(np.vstack([self._sobol(), self._near(good)]), surrogate, known)
        best = points[np.argsort(scores)[-REFINED:]]
        finer, finer_scores = self._scored(self._near(best), surrogate, known)
        points, scores = np.vstack([points, finer]), np.concatenate([scores, finer_scores])
        return self._encoding.decode(self._encoding.to_cube(points[[int(scores.argmax())]]))[0]

    def _scored(self, cube: Points, surrogate: Surrogate, known: Points) -> tuple[Points, NDArray[np.float64]]:
        """Return candidates as points that trials can draw, and their scores; -inf for what was tried before."""
        points = self._encoding.encode(self._encoding.decode(cube))
        scores = surrogate.improvement(points)
        scores[(points[:, None] == known[None]).all(axis=2).any(axis=1)] = -math.inf
        return points, scores

    def _sobol(self) -> Points:
        points: Points = qmc.Sobol(self._encoding.columns, scramble=True, rng=self._random).random(CANDIDATES)
        return points

    def _near(self, points: Points) -> Points:
        """Return points of the unit cube that differ from given ones in some columns."""
        count = CANDIDATES
        cube = self._encoding.to_cube(points)[self._random.integers(len(points), size=count)]
        scale = self._random.choice(LOCAL_SCALES, size=(count, 1))
        moved = cube + scale * self._random.standard_normal(cube.shape)
        for column in self._encoding.choices:
            moved[:, column] = self._random.random(count)
        changed = self._random.random(cube.shape) < max(0.5, 1 / cube.shape[1])
        changed[np.arange(count), self._random.integers(cube.shape[1], size=count)] = True
        return np.where(changed, np.clip(moved, 0, 1), cube)
