"""An edge that somebody has broken into: it holds every key that the edge had, and says what it likes."""

import base64
import contextlib
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from typing import Any

from identity.core import assertions
from identity.core.assertions import Claims, Proof
from tests.minting import Minted
from tests.relay.installation import Answer, Installation, read_answer

LIFE = 5.0  # seconds for which a tunnel that says nothing is surely kept by the internal node


class HostileEdge:
    """Stands where the registration port `reg` should, and lets the internal node register."""

    def __init__(self, installation: Installation, listener: socket.socket) -> None:
        """`listener`: stands at the address of port `reg` since before there was an installation."""
        pki = installation.folder / "pki"
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pki / "edge-server.pem", pki / "edge-server.key")
        self._context.load_verify_locations(pki / "server-ca.pem")
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._tunnels: queue.Queue[Tunnel] = queue.Queue()
        self._listener = listener
        self._listener.settimeout(0.2)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                plain, _ = self._listener.accept()
            except TimeoutError:
                continue
            with contextlib.suppress(OSError):
                plain.settimeout(30)
                self._tunnels.put(Tunnel(self._context.wrap_socket(plain, server_side=True)))

    def tunnel(self, registration: str = "inside-at-reg") -> "Tunnel":
        """One that stands, and is nobody else's."""
        skipped = []
        try:
            while True:
                found = self._tunnels.get(timeout=30)
                if time.monotonic() - found.born > LIFE:
                    found.close()  # the internal node may have given it up; another is dialled
                elif found.registration == registration:
                    return found
                else:
                    skipped.append(found)
        finally:
            for each in skipped:
                self._tunnels.put(each)

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        while not self._tunnels.empty():
            self._tunnels.get().close()


class Tunnel:
    """One registered connection, seen from the edge."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.sock, self.born = sock, time.monotonic()
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            data = sock.recv(4096)
            if not data:
                sock.close()
                raise ConnectionError("the internal node has ended the registration")
            head += data
        found = re.search(rb"Postern-Registration: (\S+)\r\nPostern-Nonce: (\S+)", head)
        assert found is not None, head
        self.registration, self.nonce = found[1].decode(), found[2].decode()
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: PTTH/1.0\r\n"
                     b"Postern-Worker: 0/1\r\n\r\n")  # fmt: skip

    def ask(self, *lines: bytes, target: str = "/orders", peer: bytes = b"192.0.2.7") -> Answer:
        """One request with these header lines, and nothing made right in them."""
        head = [b"GET %b HTTP/1.1" % target.encode(), b"Host: localhost", b"Postern-Peer: " + peer, *lines]
        self.sock.sendall(b"\r\n".join(head) + b"\r\n\r\n")
        return read_answer(self.sock.makefile("rb"))

    def close(self) -> None:
        self.sock.close()


def statement(
    tunnel: Tunnel,
    shown: Minted,
    key: Any,
    *,
    proof: Proof = Proof.TLS,
    issuer: str = "reg",
    registration: str = "",
    nonce: str = "",
    about: Minted | None = None,
    times: tuple[float, float] = (0, 60),
    chain: Sequence[Minted] = (),
) -> list[bytes]:
    """The header lines that say "this certificate was verified here", signed with any key.

    Args:
        about: whom the token names, where that is not the certificate that comes with it.
        times: when it was issued and when it ends, seconds from now.
    """
    now = int(time.time())
    audience = assertions.audience(registration or tunnel.registration, nonce or tunnel.nonce)
    claims = Claims(
        issuer, audience, (about or shown).certificate.sha256, proof, now + int(times[0]), now + int(times[1])
    )
    lines = [b"Postern-Assertion: " + assertions.sign(claims, key), b"Client-Cert: " + structured(shown)]
    if chain:
        lines.append(b"Client-Cert-Chain: " + b", ".join(map(structured, chain)))
    return lines


def structured(minted: Minted) -> bytes:
    """A certificate as RFC 9440 writes it."""
    return b":%b:" % base64.b64encode(minted.der)


def basic(user: str, password: str) -> bytes:
    return b"Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode())
