"""Whether an address can be listened at. Knows neither Django nor the configuration."""

import errno
import socket

_WORDS = {
    errno.EADDRINUSE: "another program listens there already",
    errno.EACCES: "this account may not listen there (port numbers below 1024 belong to root)",
    errno.EADDRNOTAVAIL: "it is no address of this machine",
}


def obstacle(host: str, port: int) -> str | None:
    """What keeps this process from listening at `host`:`port`, in words; None when nothing does."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: a connection that has just ended does not count as somebody who listens.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        return _WORDS.get(error.errno or 0, error.strerror or str(error))
    return None


def free_port(wanted: int, host: str = "127.0.0.1", taken: frozenset[int] = frozenset()) -> int:
    """`wanted` where it can be listened at and is none of `taken`, else a port number that the system finds free."""
    if wanted not in taken and obstacle(host, wanted) is None:
        return wanted
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
            found: int = probe.getsockname()[1]
        if found not in taken:
            return found
