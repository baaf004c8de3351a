"""The one writer of a sweep: it takes what happens from Tune's loop and writes it behind its back."""

import logging
import math
import os
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.errors import SweepFailed, UserError
from sfd_sweep.search.records import ResourceUsage, SweepRecord, SweepState, TrialRecord
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.model_registry import log_generator
from sfd_sweep.tracking.pictures import sweep_files
from sfd_sweep.tracking.reader import read_sweep
from sfd_sweep.tracking.runs import SweepRuns
from sfd_sweep.tracking.store import Store, may_pass, one_line, refusals_of
from sfd_sweep.trial.files import GENERATOR, step_folder, trial_folder
from sfd_sweep.trial.report import Report, TrialState

log = logging.getLogger(__name__)

SWITCHES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""MLflow would wait for minutes by itself, and then repeat what it cannot know was not done. What the user has set
stays."""

PAUSE_SECONDS = 2.0
PATIENCE_SECONDS = 60.0
"""How long a sweep that has ended waits for a store that is away."""

REPORTS_AT_ONCE = 20
"""MLflow takes a thousand figures in a request."""


class MlflowRecorder:
    """Records a sweep in MLflow: a run for the sweep, and one below it for each trial.

    Calls return at once; one background thread makes the writes, in order. Reports of a trial that have come in
    meanwhile are written together, so that a record which falls behind catches up. While the store is away, the writes
    wait for it. A write that it refuses ends the writing and is raised by `close`. Telling the same thing twice changes
    nothing, so a write of which nobody knows whether it was made is repeated, and a resumed sweep tells everything that
    is in its storage once more.
    """

    def __init__(self, store: Store, space: SearchSpace, sweep_folder: Folder, runs: SweepRuns) -> None:
        self._store = store
        self._space = space
        self._folder = sweep_folder
        self._runs = runs
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mlflow-writer")
        self._unwritten: dict[int, deque[tuple[Report, float]]] = defaultdict(deque)
        self._failure: BaseException | None = None
        self._is_away = False
        self._patient_until = math.inf

    @classmethod
    def open(
        cls, space: SearchSpace, sweep_folder: Folder, config_yaml: str, *, resume: bool = False
    ) -> "MlflowRecorder":
        """Reach the store, create or migrate its database, and make the sweep's run (or find it).

        Args:
            sweep_folder: where the sweep keeps its trials.
            config_yaml: the resolved search-space file; kept without credentials.
            resume: whether a sweep of that name may be there already.

        Raises:
            UserError: the store is away or unreadable, or has a sweep of that name that is not resumed.
        """
        for name, value in SWITCHES.items():
            os.environ.setdefault(name, value)
        store = Store.open(space.tracking.uri, create=True)
        with refusals_of(store.uri):
            runs = SweepRuns.open(store, space, sweep_folder, config_yaml, resume=resume)
        return cls(store, space, sweep_folder, runs)

    def trial_started(self, number: int, settings: Settings, searched: dict[str, Any]) -> None:
        """A slot has been asked to run the trial, for the first time or again.

        Args:
            searched: the values of the parameters that the sweep searches.
        """
        self._put(self._runs.start_trial, number, settings, searched)

    def trial_reported(self, number: int, report: Report, waiting_seconds: float) -> None:
        """The trial has been evaluated, and the grid of its fixed-seed samples is in its folder.

        Args:
            waiting_seconds: how long it has waited for a slot since its last evaluation.
        """
        self._unwritten[number].append((report, waiting_seconds))
        self._put(self._write_reports, number)

    def trial_finished(self, number: int, state: TrialState, reason: str | None) -> None:
        """The trial has ended."""
        self._put(self._runs.end_trial, number, state, reason)

    def front_changed(self, front: Sequence[int], hypervolume: float, finished: int, spent: ResourceUsage) -> None:
        """The front, by numbers of trials, after so many trials have ended and so much was spent."""
        self._put(self._runs.mark_front, tuple(front), hypervolume, finished, spent)

    def judged(self, number: int, report: Report) -> None:
        """The trial has been evaluated once more, at the final number of samples."""
        self._put(self._runs.judge_trial, number, report)

    def close(self, state: SweepState, reason: str | None = None) -> None:
        """Write what is still to be written, pictures and table, models if the sweep is complete, and its state.

        Args:
            reason: why the sweep, and with it every trial that has not ended, was stopped or failed.

        Raises:
            SweepFailed: MLflow has refused a write, or is away and stays so for a while.
        """
        self._patient_until = time.monotonic() + PATIENCE_SECONDS
        self._put(self._finish, state, reason)
        self._thread.shutdown(wait=True)
        if self._failure:
            with self._safe_in_storage():
                raise self._failure

    def _finish(self, state: SweepState, reason: str | None) -> None:
        self._runs.stop_open_trials(reason)
        record = read_sweep(self._store.uri, self._space.name)
        self._runs.log_files(sweep_files(record))
        if state is SweepState.COMPLETE:
            self._log_models(record)
        self._runs.end(state, reason)

    def _write_reports(self, number: int) -> None:
        """Write what the trial has reported, unless an earlier call has written it along with its own."""
        unwritten = self._unwritten[number]
        # By index, as the caller may append meanwhile, which would end an iteration.
        if reports := [unwritten[index] for index in range(min(len(unwritten), REPORTS_AT_ONCE))]:
            self._runs.report_trial(number, reports)
        for _ in reports:
            unwritten.popleft()

    def _put(self, write: Callable[..., None], *arguments: object) -> None:
        self._thread.submit(self._write, write, *arguments).add_done_callback(self._note)

    def _write(self, write: Callable[..., None], *arguments: object) -> None:
        """Make a write, unless an earlier one was refused; if MLflow or the storage is away, again and again."""
        while self._failure is None:
            try:
                if self._is_away:
                    self._runs.look_again()  # the write may have been made all the same
                write(*arguments)
            except (UserError, MlflowException, SQLAlchemyError, OSError) as error:
                if not may_pass(error) or time.monotonic() > self._patient_until:
                    raise
                self._wait(error)
            else:
                break
        if self._is_away and self._failure is None:
            self._is_away = False
            log.warning("the record of %s in MLflow goes on: what was away is back", self._space.name)

    def _wait(self, error: BaseException) -> None:
        if not self._is_away:
            self._is_away = True
            where = f"{self._space.name} in MLflow at {self._store.place}"
            log.warning("the record of %s waits for what is away: %s", where, one_line(error))
        time.sleep(PAUSE_SECONDS)

    def _note(self, done: "Future[None]") -> None:
        error = done.exception()
        if error:
            self._failure = error
            log.warning("MLflow takes no more of this sweep, which goes on: %s", one_line(error))

    @contextmanager
    def _safe_in_storage(self) -> Iterator[None]:
        try:
            with refusals_of(self._store.uri):
                yield
        except UserError as error:
            name = self._space.name
            raise SweepFailed(
                f"{error}. Everything is safe in {self._folder.uri}; `sfd-sweep resume {name}` records it again"
            ) from error

    def _log_models(self, record: SweepRecord) -> None:
        for trial in record.front:
            with self._generator(trial) as folder:
                if folder:
                    log_generator(self._store, trial.run_id, folder)

    @contextmanager
    def _generator(self, trial: TrialRecord) -> Iterator[Path | None]:
        """The folder of the trial's last generator on a local disk; None, with a warning, if it was not kept."""
        step = trial.report.step if trial.report else 0
        folder = step_folder(trial_folder(self._folder, trial.number), step) / GENERATOR
        if not folder.has("model_index.json"):
            log.warning("trial %d is on the front, but %s holds no generator to log", trial.number, folder)
            yield None
        elif folder.is_local:
            yield Path(folder.path)
        else:
            with tempfile.TemporaryDirectory() as local:
                folder.download(Path(local))
                yield Path(local)
