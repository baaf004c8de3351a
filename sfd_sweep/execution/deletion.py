"""Deletion of a sweep: its folder, and its record in MLflow."""

from collections.abc import Callable

from sfd_sweep.config import parse_search_space
from sfd_sweep.errors import UserError
from sfd_sweep.search.study import is_begun
from sfd_sweep.storage.errors import storage_errors
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.lock import is_held, one_driver
from sfd_sweep.tracking.deletion import SweepTraces
from sfd_sweep.tracking.store import Store
from sfd_sweep.trial.files import CONFIG, read_config


def delete_sweep(name: str, location: str, *, uri: str | None = None, confirm: Callable[[str], bool]) -> None:
    """Delete a sweep that does not run. What other sweeps and exported folders have of it stays.

    Args:
        name: of the sweep.
        location: its folder, by its path or URI. It may be gone already.
        uri: of the tracking store; None: the one in its file, or the default.
        confirm: called with what will be deleted, in words; nothing is deleted unless it returns True.

    Raises:
        UserError: the sweep runs, there is none, or it was not confirmed.
    """
    sweep = Folder.open(location)
    with storage_errors(sweep):
        has_config = sweep.has(CONFIG)
        exists = has_config or is_begun(sweep)  # without one where an earlier deletion was interrupted
        if exists and is_held(sweep):
            raise UserError(f"{name} is being run; `sfd-sweep stop {name}` stops it")
    if has_config and uri is None:
        uri = parse_search_space(read_config(sweep), f"{sweep}/{CONFIG}").tracking.uri
    store = Store.open(uri)
    traces = SweepTraces.find(store, name)
    if not exists and not traces.runs:
        raise UserError(f"{sweep} holds no sweep, and MLflow at {store.place} does not know {name}")
    words = (
        f"{len(traces.runs)} runs, {len(traces.models)} models, {len(traces.versions)} registered versions in MLflow"
    )
    if not confirm(f"{name}: the folder {sweep}, and {words} at {store.place}"):
        raise UserError("nothing was deleted")
    with storage_errors(sweep):
        if exists:
            with one_driver(sweep):
                sweep.remove(CONFIG)  # so that no driver begins meanwhile
            sweep.delete()
    traces.delete(store, name)
