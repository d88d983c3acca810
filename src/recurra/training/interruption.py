"""Ctrl-C and SIGTERM as a request, heard at the end of a step, so that a checkpoint is whole."""

import signal
import threading
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal and can go on; the message says how.

    Args:
        signal_number: SIGINT or SIGTERM.
        command: what goes on from here.
    """

    def __init__(self, signal_number: int, command: str) -> None:
        name = signal.Signals(signal_number).name
        super().__init__(f"stopped by {name} and saved; go on with: {command}")
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


class StopRequest:
    """While entered, the first signal asks for a stop and the second one stops at once.

    Outside the main thread, where Python allows no signal handlers, signals keep their meaning.

    Attributes:
        signal_number: the signal that came, or 0.
    """

    signals = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signal_number = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.getsignal(number) for number in self.signals}
            for number in self.signals:
                signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _heard(self, number: int, _: FrameType | None) -> None:
        if self.signal_number:
            for again, handler in self._previous.items():
                signal.signal(again, handler)
            raise KeyboardInterrupt
        self.signal_number = number
