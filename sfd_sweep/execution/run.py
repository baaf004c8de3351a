"""Run or resume a sweep: plain functions, independent of the command line."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sfd_sweep.config import SearchSpace, change, dump_search_space, parse_search_space, with_changes
from sfd_sweep.errors import UserError
from sfd_sweep.execution.cluster import connected, is_shared, nodes, slot_count, waits_for_machines
from sfd_sweep.execution.driver import Driver, evaluations, is_finished, is_trained
from sfd_sweep.execution.events import Outcome, SweepObserver
from sfd_sweep.execution.worker import RuntimeFactory, build_runtime
from sfd_sweep.search.budget import trials_left
from sfd_sweep.search.requests import SweepStop, carry_out
from sfd_sweep.search.study import SweepStudy, begin_study, is_begun
from sfd_sweep.search.warm_start import find_warm_start
from sfd_sweep.storage.credentials import without_credentials
from sfd_sweep.storage.errors import storage_errors
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.lock import LOCK, one_driver
from sfd_sweep.tracking.reader import read_family
from sfd_sweep.tracking.recorder import MlflowRecorder
from sfd_sweep.tracking.store import check_answers
from sfd_sweep.trial.files import CONFIG, read_config
from sfd_sweep.trial.resolve import ResolvedSweep, resolve_sweep

OpenRecorder = Callable[..., MlflowRecorder]
"""A function like `tracking.recorder.MlflowRecorder.open`."""


def run(
    space: SearchSpace,
    *,
    address: str | None = None,
    observer: SweepObserver | None = None,
    build: RuntimeFactory = build_runtime,
    open_recorder: OpenRecorder = MlflowRecorder.open,
) -> Outcome:
    """Run a sweep from start to end.

    Args:
        address: Ray cluster: None or "local" starts one on this machine, "auto" joins the one that this machine is part
            of, and `host:port` the one with that head. A process that has joined one already stays there.
        observer: receives the sweep's events.
        build: makes a worker's runtime.
        open_recorder: opens the sweep's record.

    Raises:
        UserError: the sweep cannot be started, and nothing is left of it; or its slots cannot load what they need.
        SweepFailed: it was started, but produced nothing.
        Interrupted: it was stopped by Ctrl-C.
    """
    began, observer = time.monotonic(), observer or SweepObserver()
    plan = resolve_sweep(space)
    sweep = Folder.open(space.storage) / space.name
    config = without_credentials(dump_search_space(space))
    check_answers(space.tracking.uri)  # before Ray is started, which takes seconds
    warm_start = find_warm_start(space, read_family)
    storage_is_new = sweep.is_local and not Path(sweep.path).parent.exists()
    with ExitStack() as stack:
        with storage_errors(sweep):
            may_write = stack.enter_context(one_driver(sweep))
            _check_is_new(space, sweep)
        with _removed_on_error(sweep, storage_is_new):
            slots = _join_cluster(stack, space, address, observer, space.budget.trials)
            sweep.write(CONFIG, config.encode())
            begin_study(space, sweep, warm_start, may_write)
            recorder = open_recorder(space, sweep, config, resume=False, may_write=may_write)
        study = SweepStudy(space, sweep, may_write)
        return Driver(plan, sweep, study, recorder, observer, build).run(slots, began)


def resume(
    location: str | Path,
    *,
    overrides: Sequence[str] = (),
    uri: str | None = None,
    address: str | None = None,
    observer: SweepObserver | None = None,
    build: RuntimeFactory = build_runtime,
    open_recorder: OpenRecorder = MlflowRecorder.open,
) -> Outcome:
    """Continue a sweep whose driver has ended in any way. Trials that have ended stay as they are.

    Args:
        location: the sweep's folder, by its path or URI.
        overrides: of keys in its file that may change (see `config.changes`).
        uri: of the tracking store that has its record, instead of the one in its file.

    See `run` for the rest.

    Raises:
        UserError: there is no sweep, another process runs it, or a key must stay as it is.
    """
    began, observer = time.monotonic(), observer or SweepObserver()
    sweep = Folder.open(location)
    kept = read_config(sweep)
    space, changes = change(parse_search_space(kept, f"{sweep}/{CONFIG}"), overrides)
    config = with_changes(space, kept, changes) if changes else kept
    if uri is not None:
        space = space.model_copy(update={"tracking": space.tracking.model_copy(update={"uri": uri})})
    plan = resolve_sweep(space)
    with ExitStack() as stack:
        with storage_errors(sweep):
            may_write = stack.enter_context(one_driver(sweep))
        if not is_begun(sweep):  # the driver was killed before
            begin_study(space, sweep, find_warm_start(space, read_family), may_write)
        study = SweepStudy(space, sweep, may_write)
        with storage_errors(sweep):
            requests = list(carry_out(sweep, study))  # a request to stop was for an earlier driver
        for request in requests:
            if not isinstance(request, SweepStop):
                observer.note(request.in_words())
        slots = 0
        if not is_finished(plan, sweep, study):
            slots = _join_cluster(stack, space, address, observer, _remaining(plan, sweep, study))
        if changes:
            _keep_changes(sweep, config, changes, observer)
        study.enqueue_first(space.search.first)
        recorder = open_recorder(space, sweep, config, resume=True, may_write=may_write)
        return Driver(plan, sweep, study, recorder, observer, build).run(slots, began)


def _keep_changes(sweep: Folder, config: str, changes: Sequence[str], observer: SweepObserver) -> None:
    with storage_errors(sweep):
        sweep.write(CONFIG, without_credentials(config).encode())
    for text in changes:
        observer.note(f"changed: {text}")


def _remaining(plan: ResolvedSweep, sweep: Folder, study: SweepStudy) -> int | None:
    """Return how many trials are left to train, or else how many generators to evaluate; None without a limit."""
    if is_trained(plan.space, study):
        return len(evaluations(plan, sweep, study))
    trials = plan.space.budget.trials
    return None if trials is None else max(len(study.running()), trials_left(trials, study)) + len(study.queued())


def _join_cluster(
    stack: ExitStack, space: SearchSpace, address: str | None, observer: SweepObserver, trials: int | None
) -> int:
    """Join the cluster until the stack is closed; return how many slots the sweep gets there for a number of trials."""
    if sent := stack.enter_context(connected(address)):
        observer.note(sent)
    cluster = nodes()
    slots = slot_count(space.resources, trials, cluster, grows=is_shared(address))
    if waits := waits_for_machines(space.resources, slots, cluster):
        observer.note(waits)
    return slots


def _check_is_new(space: SearchSpace, sweep: Folder) -> None:
    if sweep.has(CONFIG):
        raise UserError(
            f"name: the sweep {space.name!r} exists already ({sweep}): continue it with "
            f"`sfd-sweep resume {space.name}`, or choose another name with `--set name=…`"
        )
    if sweep.names() != [LOCK]:
        raise UserError(f"name: {sweep} holds other files; choose another name with `--set name=…`")


@contextmanager
def _removed_on_error(sweep: Folder, storage_is_new: bool) -> Iterator[None]:
    """Remove the sweep's new folder if the block fails, and the storage around it if that is new too."""
    try:
        yield
    except BaseException:
        sweep.delete()
        if storage_is_new:
            with suppress(OSError):  # another sweep may have been created there
                Path(sweep.path).parent.rmdir()
        raise
