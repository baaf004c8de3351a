"""How a running sweep is stopped before its end: by Ctrl-C, or by an error that makes going on useless."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from ray.tune import Stopper

from sfd_sweep.errors import Interrupted


class Stop:
    """A request to stop, from whatever thread or signal.

    Attributes:
        error: what the sweep ends with, by the first request; None as long as it goes on.
        now: whether evaluations that are running are given up, too.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.now = False

    def request(self, error: Exception, *, now: bool = True) -> None:
        """Stop the sweep, at once or when the running evaluations are done, and raise this at its end."""
        self.error = self.error or error
        self.now = self.now or now


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
    """Ends Tune's run at once when that is requested.

    Args:
        obey: called again and again, to let the slots know of whatever is requested.
    """

    def __init__(self, stop: Stop, obey: Callable[[], None]) -> None:
        self._stop = stop
        self._obey = obey

    def __getstate__(self) -> dict[str, object]:
        """Nothing: Tune writes the state of a run to disk, where nobody reads it."""
        return {}

    def __call__(self, _trial_id: str, _result: dict[str, object]) -> bool:
        """Never a single trial."""
        return False

    def stop_all(self) -> bool:
        """Whether to stop."""
        self._obey()
        return self._stop.now


@contextmanager
def signals_stop(stop: Stop, message: str) -> Iterator[None]:
    """Let Ctrl-C, or the signal to terminate, stop the sweep: the first one when the running evaluations are done, the
    second one at once but in order. A third one ends the process there and then.

    Outside the main thread, where Python takes no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}

    def take_all_by(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
        for number in signals:
            signal.signal(number, handler)

    def first(_number: int, _frame: FrameType | None) -> None:
        stop.request(Interrupted(message), now=False)
        take_all_by(second)

    def second(_number: int, _frame: FrameType | None) -> None:
        stop.request(Interrupted(message))
        take_all_by(signal.SIG_DFL)

    take_all_by(first)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
