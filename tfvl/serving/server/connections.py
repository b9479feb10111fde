"""uvicorn's connections, with limits so that idle, slow and half-closed ones do no harm."""

from uvicorn.protocols.http.h11_impl import H11Protocol

from tfvl.serving.server.limits import Waiting

_STILL_THERE = b"HTTP/1.1 100 Continue\r\n\r\n"


def protocol(seconds: float, most: int) -> type[H11Protocol]:
    """Returns uvicorn's protocol class for HTTP/1.1, with limits.

    Args:
        seconds: the time within which a new connection must begin a request.
        most: the largest number of connections at once. Beyond it, the connection that has not sent a request for
            longest is closed.
    """
    waiting = Waiting()

    class Protocol(H11Protocol):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.app_state = {"connection": self}  # which the application finds in a request's `state`
            self._ended = False

        def connection_made(self, transport):
            super().connection_made(transport)
            self._seen = None
            self._look_again()
            self._enter_or_leave()
            if sum(not each.transport.is_closing() for each in self.connections) > most:
                waiting.end_first()

        def connection_lost(self, error):
            self._timer.cancel()
            waiting.leave(self)
            super().connection_lost(error)

        def handle_events(self):
            super().handle_events()
            self._enter_or_leave()

        def on_response_complete(self):
            super().on_response_complete()
            self._enter_or_leave()
            if self._ended and not self._answering():
                self.transport.close()

        def eof_received(self):
            """Keeps the connection until the answer is sent, since the client may have closed only its sending side."""
            self._ended = True
            return self._answering()

        def look_for_client(self):
            """Writes an interim answer to a client that has closed its sending side; if it is gone, the write fails."""
            cycle = self.cycle
            if self._ended and not cycle.response_started and cycle.scope["http_version"] == "1.1":
                self.transport.write(_STILL_THERE)

        def _answering(self) -> bool:
            return self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete

        def _enter_or_leave(self):
            if self._answering() or self.transport.is_closing():
                waiting.leave(self)
            elif self not in waiting:
                waiting.enter(self, self.transport.abort)

        def _look_again(self):
            self._timer = self.loop.call_later(seconds, self._look)

        def _look(self):
            idle = self.cycle is None or self.cycle.response_complete
            if idle and self.cycle is self._seen:
                self.transport.close()
            else:
                self._seen = self.cycle
                self._look_again()

    return Protocol
