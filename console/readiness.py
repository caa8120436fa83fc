"""Whether what was started answers: the console over HTTP, the nodes over their control sockets."""

import http.client
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.relay.control import ControlError, call

ANSWER = 0.5  # seconds that each has; asked one after the other, so that nothing runs beside the supervisor's loop
PATIENCE = 15.0  # seconds after which it is said what is still missing


class Readiness:
    """Call it until it says True; then, and once before where it takes long, it tells.

    Args:
        nodes: name of each node, and the names of its ports that listen.
        console: host and port of the console; None where it is not served here.
        say: takes lines for people.
        announce: called once, when all answer, with the seconds that it took.
    """

    def __init__(
        self,
        nodes: dict[str, Sequence[str]],
        console: tuple[str, int] | None,
        state_dir: Path,
        say: Callable[[str], None],
        announce: Callable[[float], None],
    ) -> None:
        self._nodes, self._console, self._state_dir = nodes, console, state_dir
        self._say, self._announce = say, announce
        self._began = time.monotonic()
        self._complained = False

    def __call__(self) -> bool:
        missing = self._missing()
        took = time.monotonic() - self._began
        if missing is None:
            self._announce(took)
            return True
        if took > PATIENCE and not self._complained:
            self._complained = True
            self._say(f"not ready after {PATIENCE:.0f} s: {missing} The lines above say more.")
        return False

    def _missing(self) -> str | None:
        """The first thing that does not answer yet, in a sentence."""
        for name, ports in self._nodes.items():
            try:
                state = call(self._state_dir, name, {"op": "state"}, timeout=ANSWER)
            except ControlError:
                return f"node {name} does not answer."
            listening = {port["name"] for port in state["ports"] if port["listening"]}
            if silent := [port for port in ports if port not in listening]:
                return f"port {silent[0]} of node {name} does not listen."
        if self._console is not None and not _answers_http(*self._console):
            return "the console does not answer."
        return None


def _answers_http(host: str, port: int) -> bool:
    """Whether a server answers there, whatever it says."""
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER)
    try:
        connection.request("GET", "/healthz")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True
