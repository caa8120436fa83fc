"""Calls to where a row says: resolved once, looked at, and connected to what was looked at.

A name that means another address a moment later (DNS rebinding) leads nowhere.
"""

import http.client
import socket
import ssl
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from gateway.core.destinations import Destinations


class NotAllowed(OSError):
    """Nothing was sent; the message says why."""


def handlers(url: str, allowed: Destinations) -> list[urllib.request.BaseHandler]:
    """What opens `url` where it may be called. Raises NotAllowed.

    A proxy of the environment resolves names itself: then the name is looked at, and an address where one is given.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        _check_unresolved(host, allowed)
        return [urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler()]
    return [_Plain(allowed), _OverTLS(allowed)]


def connect(host: str, port: int, timeout: float | None, allowed: Destinations) -> socket.socket:
    """As `socket.create_connection`, to those addresses of the host alone that may be called. Raises OSError."""
    refused = ""
    failed: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if why := allowed.why_not(host, str(address[0])):
            refused = refused or why
            continue
        found = socket.socket(family, kind, protocol)
        try:
            found.settimeout(timeout)
            found.connect(address)
        except OSError as error:
            found.close()
            failed = error
        else:
            return found
    raise failed or NotAllowed(refused or f"{host} has no address")


def _check_unresolved(host: str, allowed: Destinations) -> None:
    try:
        infos = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except OSError:  # a name
        if not allowed.names(host):
            raise NotAllowed(f"{host} is not in the list of where the console may call (REVOCATION_FROM)") from None
        return
    for info in infos:
        if why := allowed.why_not(host, str(info[4][0])):
            raise NotAllowed(why)


class _Connection(http.client.HTTPConnection):
    def __init__(self, *args: Any, allowed: Destinations, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.allowed = allowed

    def connect(self) -> None:
        self.sock = connect(self.host, self.port, self.timeout, self.allowed)


class _Secure(http.client.HTTPSConnection):
    def __init__(self, *args: Any, allowed: Destinations, **kwargs: Any) -> None:
        self.verifying = ssl.create_default_context()
        super().__init__(*args, context=self.verifying, **kwargs)
        self.allowed = allowed

    def connect(self) -> None:
        plain = connect(self.host, self.port, self.timeout, self.allowed)
        try:
            self.sock = self.verifying.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, allowed: Destinations) -> None:
        super().__init__()
        self.allowed = allowed

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req, allowed=self.allowed)  # type: ignore[arg-type]


class _OverTLS(urllib.request.HTTPSHandler):
    def __init__(self, allowed: Destinations) -> None:
        super().__init__()
        self.allowed = allowed

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Secure, req, allowed=self.allowed)  # type: ignore[arg-type]
