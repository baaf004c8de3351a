"""Recorder of a sweep: it accepts events in Tune's loop and writes them to MLflow in a background thread."""

import logging
import math
import os
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.errors import SweepFailed, UserError
from sfd_sweep.search.records import ResourceUsage, SweepRecord, SweepState
from sfd_sweep.search.trial import Trial
from sfd_sweep.storage.credentials import without_credentials
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.lease import LeaseCheck
from sfd_sweep.tracking import DEFAULTED
from sfd_sweep.tracking.model_registry import log_generator
from sfd_sweep.tracking.pictures import sweep_files
from sfd_sweep.tracking.reader import read_sweep
from sfd_sweep.tracking.report_page import REPORT_PAGE, report_html
from sfd_sweep.tracking.runs import SweepRuns
from sfd_sweep.tracking.store import Store, is_temporary, mlflow_errors, one_line
from sfd_sweep.tracking.stored_samples import StoredSamples
from sfd_sweep.trial.files import GENERATOR, step_folder, trial_folder
from sfd_sweep.trial.report import Report, TrialState

log = logging.getLogger(__name__)

SWITCHES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""Short limits for MLflow's own retries, as the recorder repeats failed writes. The user's values take precedence."""

PAUSE_SECONDS = 2.0
PATIENCE_SECONDS = 60.0
"""How long a sweep that has ended waits for a store that cannot be reached."""

PAGE_SECONDS = 60.0
"""Least time between two pages of a running sweep."""
PAGE_SHARE = 0.05
"""Greatest share of the time that the pages of a running sweep take."""

REPORTS_AT_ONCE = 20
"""MLflow accepts at most a thousand metric values in a request."""


class MlflowRecorder:
    """Recorder of a sweep in MLflow: one run for the sweep, and a child run for each trial.

    Calls return at once; one background thread makes the writes in order. Pending reports of a trial are written
    together, so a slow record catches up. Writes wait while the store cannot be reached. A refused write ends the
    writing, and `close` raises its error; so does the loss of the sweep's lease. Every write can be repeated: an
    uncertain one is made again, and a resumed sweep records everything in its storage again.
    """

    def __init__(
        self, store: Store, space: SearchSpace, sweep_folder: Folder, runs: SweepRuns, may_write: LeaseCheck
    ) -> None:
        self._store = store
        self._space = space
        self._folder = sweep_folder
        self._runs = runs
        self._may_write = may_write
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mlflow-writer")
        self._unwritten: dict[int, deque[Report]] = defaultdict(deque)
        self._told: dict[int, dict[int, Report]] = defaultdict(dict)  # by trial and step
        self._samples = StoredSamples(sweep_folder)
        self._page_due = time.monotonic() + PAGE_SECONDS
        self._failure: BaseException | None = None
        self._is_waiting = False
        self._give_up_at = math.inf
        self._earlier_limits = _shorten_retries()

    @classmethod
    def open(
        cls,
        space: SearchSpace,
        sweep_folder: Folder,
        config_yaml: str,
        *,
        resume: bool = False,
        may_write: LeaseCheck = lambda: None,
    ) -> "MlflowRecorder":
        """Connect to the store, create or migrate its database, and find or create the sweep's run.

        Args:
            sweep_folder: the folder that contains the trials.
            config_yaml: the resolved search-space file; it is recorded without credentials.
            resume: whether the store may already have a sweep of this name.
            may_write: called before every write; raises if another driver may have taken over the sweep.

        Raises:
            UserError: the store cannot be reached or read, or has a sweep of this name and `resume` is false.
        """
        store = Store.open(space.tracking.uri, create=True)
        with mlflow_errors(store.uri):
            runs = SweepRuns.open(store, space, sweep_folder, config_yaml, resume=resume)
        return cls(store, space, sweep_folder, runs, may_write)

    def trial_started(self, number: int, settings: Settings, searched: dict[str, Any]) -> None:
        """Record that a trial starts or resumes; `searched` has its values of the searched parameters."""
        self._put(self._runs.start_trial, number, settings, searched)

    def trial_reported(self, number: int, report: Report) -> None:
        """Record an evaluation. The grid of fixed-seed samples is already in the trial's folder."""
        self._unwritten[number].append(report)
        self._told[number][report.step] = report
        self._put(self._write_reports, number)

    def trial_finished(self, number: int, state: TrialState, reason: str | None) -> None:
        """Record that the trial has ended."""
        self._put(self._runs.end_trial, number, state, reason)

    def front_changed(self, front: Sequence[int], hypervolume: float, finished: int, usage: ResourceUsage) -> None:
        """Record the front (trial numbers), its hypervolume and the resource usage after `finished` trials.

        The sweep's page is written anew if the last one is old enough.
        """
        self._put(self._runs.mark_front, tuple(front), hypervolume, finished, usage)
        self._put(self._refresh_page)

    def final_reported(self, number: int, report: Report) -> None:
        """Record the trial's final evaluation."""
        self._put(self._runs.report_final, number, report)

    def swap_reported(self, report: Report) -> None:
        """Record the evaluation of the null baseline."""
        self._put(self._runs.report_swap, report)

    def close(self, state: SweepState, reason: str | None = None) -> None:
        """Write pending events, pictures, the table, the models of a complete sweep, and its state.

        Args:
            reason: why the sweep failed or was stopped; also recorded for every trial that has not ended.

        Raises:
            SweepFailed: MLflow refused a write, or could not be reached for `PATIENCE_SECONDS`; or the lease is lost.
        """
        self._give_up_at = time.monotonic() + PATIENCE_SECONDS
        self._put(self._finish, state, reason)
        self._thread.shutdown(wait=True)
        _restore(self._earlier_limits)
        if isinstance(self._failure, SweepFailed):
            raise self._failure
        if self._failure:
            try:
                with mlflow_errors(self._store.uri):
                    raise self._failure
            except UserError as error:
                raise SweepFailed(
                    f"{error}. Everything is safe in {self._folder.uri}; `sfd-sweep resume {self._space.name}` "
                    "records it again"
                ) from error

    def _finish(self, state: SweepState, reason: str | None) -> None:
        self._runs.look_again()  # a request that was answered with an error may have made a run since
        self._runs.stop_open_trials(reason)
        record = self._read()
        if record.has_errors:
            self._runs.report_uncertainty(record)
        ended = replace(record.summary, state=state, reason=without_credentials(reason or "") or None)
        files = sweep_files(record) | self._page(replace(record, summary=ended))  # takes a while
        self._may_write()
        self._runs.log_files(files)
        if state is SweepState.COMPLETE:
            for trial in record.front:
                self._may_write()
                self._log_model(trial)
        self._may_write()
        self._runs.end(state, reason)

    def _read(self) -> SweepRecord:
        return read_sweep(self._store.uri, self._space.name)

    def _page(self, record: SweepRecord) -> dict[str, bytes]:
        told = {number: [reports[step] for step in sorted(reports)] for number, reports in list(self._told.items())}
        return {REPORT_PAGE: report_html(record, told, self._samples, self._space.tracking.uri)}

    def _refresh_page(self) -> None:
        """Write the page of a running sweep, so seldom that its cost is bounded."""
        began = time.monotonic()
        if began < self._page_due:
            return
        self._runs.log_files(self._page(self._read()))
        ended = time.monotonic()
        self._page_due = ended + max(PAGE_SECONDS, (ended - began) / PAGE_SHARE)

    def _write_reports(self, number: int) -> None:
        """Write the trial's pending reports; an earlier call may already have written them."""
        unwritten = self._unwritten[number]
        # By index: the main thread may append meanwhile, and iteration over a changing deque fails.
        if reports := [unwritten[index] for index in range(min(len(unwritten), REPORTS_AT_ONCE))]:
            self._runs.report_trial(number, reports)
        for _ in reports:
            unwritten.popleft()

    def _put(self, write: Callable[..., None], *arguments: object) -> None:
        self._thread.submit(self._write, write, *arguments).add_done_callback(self._note_failure)

    def _write(self, write: Callable[..., None], *arguments: object) -> None:
        """Make a write unless an earlier one was refused. Repeat it while MLflow or the storage cannot be reached."""
        while self._failure is None:
            try:
                self._may_write()
                if self._is_waiting:
                    self._runs.look_again()  # the failed write may have reached the store
                write(*arguments)
            except (UserError, MlflowException, SQLAlchemyError, OSError) as error:
                if not is_temporary(error) or time.monotonic() > self._give_up_at:
                    raise
                self._wait(error)
            else:
                break
        if self._is_waiting and self._failure is None:
            self._is_waiting = False
            log.warning("MLflow answers again, and the record of %s continues", self._space.name)

    def _wait(self, error: BaseException) -> None:
        if not self._is_waiting:
            self._is_waiting = True
            log.warning(
                "the record of %s waits: MLflow at %s or the storage cannot be reached: %s",
                *(self._space.name, self._store.place, one_line(error)),
            )
        time.sleep(PAUSE_SECONDS)

    def _note_failure(self, done: "Future[None]") -> None:
        if error := done.exception():
            self._failure = error
        if error and not isinstance(error, SweepFailed):  # which is why the sweep ends
            log.warning("recording in MLflow has stopped; the sweep itself continues: %s", one_line(error))

    def _log_model(self, trial: Trial) -> None:
        """Log the trial's last generator, if it was kept."""
        step = trial.report.step if trial.report else 0
        folder = step_folder(trial_folder(self._folder, trial.number), step) / GENERATOR
        if not folder.has("model_index.json"):
            log.warning("no model is logged for trial %d on the front: %s holds no generator", trial.number, folder)
        elif folder.is_local:
            log_generator(self._store, trial.run.run_id, Path(folder.path))
        else:
            with tempfile.TemporaryDirectory() as local:
                folder.download(Path(local))
                log_generator(self._store, trial.run.run_id, Path(local))


def _shorten_retries() -> dict[str, str | None]:
    """Set `SWITCHES` where the user leaves them to this package, and return what was set before."""
    before = {name: os.environ.get(name) for name in SWITCHES if name in DEFAULTED or name not in os.environ}
    os.environ.update({name: SWITCHES[name] for name in before})
    return before


def _restore(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
