"""How a running sweep is stopped before its end: by Ctrl-C, or by an error that makes going on useless."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from ray.tune import Stopper

from sfd_sweep.errors import Interrupted


class Stop:
    """A request to stop, from whatever thread or signal; the first one counts."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def request(self, error: Exception) -> None:
        """Stop the sweep, and raise this at its end."""
        self.error = self.error or error


class StopOnError:
    """A block in which an error stops the sweep. Tune's callbacks need it: there Tune would take the error for the
    failure of a trial."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """End the block, and keep the error for the end of the sweep."""
        if not isinstance(error, Exception):
            return False
        self._stop.request(error)
        return True


class StopWhenAsked(Stopper):
    """Ends Tune's run when a stop is requested.

    Args:
        release: called then, so that trials no longer wait for their slots.
    """

    def __init__(self, stop: Stop, release: Callable[[], None]) -> None:
        self._stop = stop
        self._release = release

    def __call__(self, _trial_id: str, _result: dict[str, object]) -> bool:
        """Never a single trial."""
        return False

    def stop_all(self) -> bool:
        """Whether to stop."""
        if self._stop.error is None:
            return False
        self._release()
        return True


@contextmanager
def signals_stop(stop: Stop, message: str) -> Iterator[None]:
    """Let Ctrl-C, or the signal to terminate, stop the sweep in order; a second one ends the process as ever.

    Outside the main thread, where Python takes no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(_number: int, _frame: FrameType | None) -> None:
        restore()
        stop.request(Interrupted(message))

    for number in signals:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
