"""What a worker says of its errors."""

from sfd_sweep.execution.worker import no_slot


def test_a_sweep_whose_slots_do_not_start_names_the_doctor() -> None:
    message = str(no_slot(TimeoutError("no GPU\nafter 60 s")))
    assert message.startswith("no slot could be started: TimeoutError: no GPU; `sfd-sweep doctor FILE`")
