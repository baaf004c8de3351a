"""How a running sweep is stopped early: by Ctrl-C, or by an error that makes continuing useless."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sfd_sweep.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """A request to stop, from any thread or signal handler.

    Attributes:
        error: the first request's error, which the sweep ends with; None while it continues.
        now: whether running evaluations are abandoned too.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.now = False

    def request(self, error: Exception, *, now: bool = True) -> None:
        """Stop the sweep, at once or after the running evaluations."""
        self.error = self.error or error
        self.now = self.now or now

    @contextmanager
    def on_error(self) -> Iterator[None]:
        """Turn an exception into a sweep stop; Tune would count it as a trial failure."""
        try:
            yield
        except Exception as error:
            self.request(error)

    @contextmanager
    def on_signals(self, message: str) -> Iterator[None]:
        """Stop the sweep on Ctrl-C or SIGTERM: the first waits for running evaluations, the second does not, and the
        third ends the process.

        Outside the main thread, where Python handles no signals, this has no effect.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        received = 0

        def handle(_number: int, _frame: object) -> None:
            nonlocal received
            received += 1
            self.request(Interrupted(message), now=received == 2 or self.error is not None)
            if received == 2:
                for number in SIGNALS:
                    signal.signal(number, signal.SIG_DFL)

        for number in SIGNALS:
            signal.signal(number, handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
