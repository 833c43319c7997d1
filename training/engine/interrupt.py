"""Stopping between two steps."""

import signal

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGBREAK") if hasattr(signal, name)]


class StopRequest:
    """Turns the first Ctrl-C into a request to stop after the step; a second one interrupts at once. SIGTERM and
    SIGUSR1, by which schedulers say that a machine will be taken away, ask the same however often they come."""

    def __init__(self):
        self.requested = False

    def __enter__(self):
        self.previous = {number: signal.signal(number, self.request) for number in SIGNALS}
        return self

    def __exit__(self, *exception):
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def request(self, number: int, *_):
        """Note the wish and give Ctrl-C its usual meaning back."""
        self.requested = True
        if number == signal.SIGINT:
            signal.signal(number, self.previous[number])
