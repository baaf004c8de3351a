"""Running a sweep and resuming one: plain functions that know nothing of the command line."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sfd_sweep.config import SearchSpace
from sfd_sweep.config.loading import dump_search_space, parse_search_space
from sfd_sweep.errors import UserError
from sfd_sweep.execution.cluster import connected, is_shared, nodes, room_for, slot_count
from sfd_sweep.execution.driver import Driver, is_finished, is_trained, judgements
from sfd_sweep.execution.events import Outcome, SweepObserver, SweepRecorder
from sfd_sweep.execution.slot_runtime import RuntimeFactory, build_slot_runtime
from sfd_sweep.search.study import SweepStudy, begin_study, is_begun
from sfd_sweep.search.warm_start import find_warm_start
from sfd_sweep.storage.credentials import without_credentials
from sfd_sweep.storage.folder import Folder, reaching
from sfd_sweep.storage.lock import LOCK, one_driver
from sfd_sweep.tracking.recorder import MlflowRecorder
from sfd_sweep.tracking.store import check_answers
from sfd_sweep.trial.files import CONFIG
from sfd_sweep.trial.resolve import resolve_sweep

OpenRecorder = Callable[..., SweepRecorder]
"""Like `tracking.recorder.MlflowRecorder.open`."""


def run(
    space: SearchSpace,
    *,
    address: str | None = None,
    observer: SweepObserver | None = None,
    build: RuntimeFactory = build_slot_runtime,
    open_recorder: OpenRecorder = MlflowRecorder.open,
) -> Outcome:
    """Run a sweep from its beginning to its end.

    Args:
        address: Ray cluster: None or "local" starts one on this machine, "auto" joins the one that this machine is part
            of, and `host:port` the one with that head. A process that has joined one already stays there.
        observer: is told what happens while it happens.
        build: makes what a slot works with.
        open_recorder: opens the record that is kept of the sweep.

    Raises:
        UserError: the sweep cannot be started, and nothing is left of it; or its slots cannot load what they need.
        SweepFailed: it was started, but came to nothing.
        Interrupted: it was stopped by Ctrl-C.
    """
    began, observer = time.monotonic(), observer or SweepObserver()
    plan = resolve_sweep(space)
    sweep = Folder.open(space.storage) / space.name
    config = without_credentials(dump_search_space(space))
    check_answers(space.tracking.uri)  # before Ray is started, which takes seconds
    warm_start = find_warm_start(space)
    storage_is_new = sweep.is_local and not Path(sweep.path).parent.exists()
    with ExitStack() as stack:
        with reaching(sweep):
            may_write = stack.enter_context(one_driver(sweep))
            _check_is_new(space, sweep)
        with _nothing_left_of(sweep, storage_is_new):
            slots = _joined(stack, space, address, observer, space.budget.trials)
            sweep.write(CONFIG, config.encode())
            begin_study(space, sweep, warm_start, may_write)
            recorder = open_recorder(space, sweep, config, resume=False)
        study = SweepStudy(space, sweep, may_write)
        driver = Driver(space, sweep, study, recorder, observer, build)
        return driver.run(slots, began, plan.weights_in_words(slots))


def resume(
    location: str | Path,
    *,
    uri: str | None = None,
    address: str | None = None,
    observer: SweepObserver | None = None,
    build: RuntimeFactory = build_slot_runtime,
    open_recorder: OpenRecorder = MlflowRecorder.open,
) -> Outcome:
    """Go on with a sweep whose driver has ended, in whatever way. Trials that have ended stay as they are.

    Args:
        location: the sweep's folder, by its path or URI.
        uri: of the tracking store that has its record, in place of the one that its file names.

    See `run` for the rest.

    Raises:
        UserError: there is no sweep, or another process runs it.
    """
    began, observer = time.monotonic(), observer or SweepObserver()
    sweep = Folder.open(location)
    with reaching(sweep):
        if not sweep.has(CONFIG):
            raise UserError(f"{sweep}: no sweep is there ({CONFIG} is missing); `sfd-sweep list` shows what there is")
        text = sweep.read(CONFIG).decode()
    space = parse_search_space(text, f"{sweep}/{CONFIG}")
    if uri is not None:
        space = space.model_copy(update={"tracking": space.tracking.model_copy(update={"uri": uri})})
    plan = resolve_sweep(space)
    with ExitStack() as stack:
        with reaching(sweep):
            may_write = stack.enter_context(one_driver(sweep))
        study = _study_of(space, sweep, may_write)
        slots = 0
        if not is_finished(space, study):
            slots = _joined(stack, space, address, observer, _left(space, study))
        recorder = open_recorder(space, sweep, text, resume=True)
        driver = Driver(space, sweep, study, recorder, observer, build)
        return driver.run(slots, began, plan.weights_in_words(slots))


def _left(space: SearchSpace, study: SweepStudy) -> int | None:
    """How many trials are still to be trained, or else judged, as far as that is limited."""
    if is_trained(space, study):
        return len(judgements(space, study))
    return None if space.budget.trials is None else space.budget.trials - study.ended()


def _joined(
    stack: ExitStack, space: SearchSpace, address: str | None, observer: SweepObserver, trials: int | None
) -> int:
    """Join the cluster until the stack is closed.

    Args:
        trials: that are to be worked on; None if nobody knows.

    Returns:
        How many slots the sweep gets there.
    """
    if sent := stack.enter_context(connected(address)):
        observer.note(sent)
    cluster = nodes()
    slots = slot_count(space.resources, trials, cluster, grows=is_shared(address))
    room = room_for(space.resources, cluster)
    if slots > room:
        observer.note(f"the cluster has room for {room} of {slots} slots now; the others wait for machines to join it")
    return slots


def _study_of(space: SearchSpace, sweep: Folder, may_write: Callable[[], None]) -> SweepStudy:
    """The study, with all that it took over from earlier sweeps, even if its driver was killed before it was made."""
    if not is_begun(sweep):
        begin_study(space, sweep, find_warm_start(space), may_write)
    return SweepStudy(space, sweep, may_write)


def _check_is_new(space: SearchSpace, sweep: Folder) -> None:
    if sweep.has(CONFIG):
        raise UserError(
            f"name: the sweep {space.name!r} is there already ({sweep}): go on with it with "
            f"`sfd-sweep resume {space.name}`, or choose another name with `--set name=…`"
        )
    if sweep.names() != [LOCK]:
        raise UserError(f"name: {sweep} holds other files; choose another name with `--set name=…`")


@contextmanager
def _nothing_left_of(sweep: Folder, storage_is_new: bool) -> Iterator[None]:
    """If the block fails, remove the sweep's new folder, and the storage around it if that is new too."""
    with ExitStack() as undo:
        undo.callback(_delete, sweep, storage_is_new)
        yield
        undo.pop_all()


def _delete(sweep: Folder, storage_too: bool) -> None:
    sweep.delete()
    if storage_too:
        with suppress(OSError):  # another sweep may have moved in
            Path(sweep.path).parent.rmdir()
