"""How many slots fit into a cluster, and errors of joining one."""

import pytest

from sfd_sweep.config import Resources
from sfd_sweep.errors import UserError
from sfd_sweep.execution.cluster import Node, connected, is_shared, room_for, slot_count, waits_for_machines

LAPTOP = [Node(2, 0)]
GPUS = [Node(16, 0), Node(32, 4), Node(32, 4)]


@pytest.mark.parametrize(
    ("resources", "cluster", "slots"),
    [
        (Resources(), LAPTOP, 2),
        (Resources(cpus_per_worker=2), LAPTOP, 1),
        (Resources(cpus_per_worker=0.5), LAPTOP, 4),
        (Resources(cpus_per_worker=0.1), [Node(0.3, 0)], 3),
        (Resources(workers_per_slot=2), LAPTOP, 1),
        (Resources(gpus_per_worker=1), GPUS, 8),
        (Resources(gpus_per_worker=0.5, cpus_per_worker=4), GPUS, 16),
        (Resources(gpus_per_worker=1, cpus_per_worker=16), GPUS, 4),
        (Resources(gpus_per_worker=1, workers_per_slot=8), GPUS, 1),
        (Resources(slots=3, gpus_per_worker=1), GPUS, 3),
    ],
)
def test_slots_are_as_many_as_the_machines_hold(resources: Resources, cluster: list[Node], slots: int) -> None:
    assert slot_count(resources, trials=100, cluster=cluster) == slots


@pytest.mark.parametrize("slots", ["auto", 2])
def test_there_are_no_more_slots_than_trials(slots: int) -> None:
    assert slot_count(Resources(slots=slots), trials=1, cluster=LAPTOP) == 1


@pytest.mark.parametrize(
    ("resources", "cluster", "message"),
    [
        (Resources(cpus_per_worker=64), LAPTOP, r"cpus_per_worker: a worker needs 64 CPUs, .* more than 2;"),
        (Resources(gpus_per_worker=1), LAPTOP, r"gpus_per_worker: a worker needs 1 GPUs, .* more than 0;"),
        (Resources(gpus_per_worker=1, cpus_per_worker=33), GPUS, r"cpus_per_worker: .* more than 32 beside its GPUs"),
        (Resources(workers_per_slot=3), LAPTOP, r"workers_per_slot: a slot needs 3 workers, .* room for 2"),
        (Resources(slots=9, gpus_per_worker=1), GPUS, r"resources.slots: 9 slots, .* room for 8"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_key_to_change(
    resources: Resources, cluster: list[Node], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        slot_count(resources, trials=100, cluster=cluster)


@pytest.fixture
def disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has joined no cluster, whatever other tests have done."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)


@pytest.mark.usefixtures("disconnected")
@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "nonsense://here"])
def test_a_missing_cluster_is_a_user_error(address: str) -> None:
    with pytest.raises(UserError, match="no Ray cluster"), connected(address):
        pass


@pytest.mark.usefixtures("disconnected")
def test_ray_client_is_refused_with_the_alternatives() -> None:
    with (
        pytest.raises(UserError, match=r"on a machine of the cluster with the address auto, or .*`ray job submit "),
        connected("ray://a:1"),
    ):
        pass


def test_where_machines_may_join_a_number_of_slots_is_not_checked() -> None:
    asked = Resources(slots=8, gpus_per_worker=1)
    assert slot_count(asked, trials=100, cluster=LAPTOP, grows=True) == 8
    assert slot_count(asked, trials=5, cluster=LAPTOP, grows=True) == 5
    assert room_for(asked, LAPTOP) == 0
    waits = (
        "no slot can start before another machine joins the cluster. resources.gpus_per_worker: a worker needs 1 GPUs"
    )
    assert waits in str(waits_for_machines(asked, 8, LAPTOP))
    assert "room for 2 of 8 slots now" in str(waits_for_machines(Resources(slots=8), 8, LAPTOP))
    assert waits_for_machines(Resources(slots=2), 2, LAPTOP) is None
    with pytest.raises(UserError, match="more than 0"):
        slot_count(Resources(gpus_per_worker=1), trials=100, cluster=LAPTOP, grows=True)


def test_only_a_cluster_that_others_started_may_grow() -> None:
    assert [is_shared(address) for address in (None, "local", "auto", "10.0.0.1:6379")] == [False, False, True, True]


@pytest.mark.usefixtures("disconnected")
def test_a_cluster_of_another_version_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.60.0\nThis process has 2.59.0.")

    monkeypatch.setattr("ray.init", refuse)
    with pytest.raises(UserError, match=r"at 'auto' runs other versions than this process: .* Ray: 2.60.0 This"):  # noqa: SIM117
        with connected("auto"):
            pass
