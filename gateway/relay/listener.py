"""A port that listens: TLS, limits on connections, accepting, stopping."""

import asyncio
import logging
import ssl
import time
from collections import Counter
from functools import partial
from typing import Any

from gateway.core.addresses import parse_address
from gateway.core.errors import MessageError
from gateway.core.reasons import GatewayReason, Reason
from gateway.core.server_names import ServerNames
from gateway.core.snapshot import Port, PortType
from gateway.relay import handshake, link
from gateway.relay.connection import ServerConnection
from gateway.relay.exchange import Exchange
from gateway.relay.heads import AT_REGISTRATION, Head, new_memo
from gateway.relay.memo import Memo
from gateway.relay.runtime import Runtime
from gateway.relay.tls import Application, TLSLayer, port_context, watch
from gateway.relay.upstream import Early, PlainLayer
from identity.core import chains
from identity.core.assertions import Proof
from identity.core.certificates import CertificateError, from_der
from identity.core.reasons import IdentityReason

log = logging.getLogger(__name__)

BACKLOG = 4096
CROWD = 64  # connections beyond a limit that are let in at a time, to be answered 503
ADDRESSES = 4096  # remembered, per generation
WATCHED = 600.0  # seconds for which the handshakes from an address are watched after its certificate was refused
PATIENCE = 1.0  # seconds that a handshake may take where a port is full and others wait


# A change of these makes new contexts. Keystores and truststores that are unchanged are the same objects as before.
TLS_FIELDS = ("keystores", "client_auth", "truststore", "min_version", "ciphers")


class Listener:
    """One bound address. Its port's settings may change under it; its address does not."""

    def __init__(self, node: Runtime, port: Port) -> None:
        self.node, self.port = node, port
        self._context, self._watching = self._make_contexts(port)
        # Addresses from which a handshake came: from which loop time on theirs need no watching.
        self._proven = Memo(ADDRESSES)
        self.names = _names(port)
        self._server: asyncio.Server | None = None
        self.heads = new_memo()
        self._addresses: Counter[str] = Counter()
        self._handshakes: dict[TLSLayer, float] = {}
        self.count = 0

    def _make_contexts(self, port: Port) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
        """For handshakes, and for those that are watched; None for a port without TLS."""

        def watching(context: ssl.SSLContext) -> None:
            watch(context)
            self._admit_console(context)

        return port_context(port, self._admit_console), port_context(port, watching)

    def _admit_console(self, context: ssl.SSLContext) -> None:
        """The console comes by registration ports too. That its certificate passes their handshake lets nobody
        register: whoever does is judged by the port's truststore alone."""
        if self.node.links is not None and self.port.type is PortType.REGISTRATION:
            context.load_verify_locations(cadata=self.node.links.authority)

    async def open(self) -> None:
        """Raises OSError where the address cannot be had."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._protocol,
            self.port.host,
            self.port.number,
            backlog=BACKLOG,
            reuse_address=True,
            reuse_port=self.node.workers > 1 or None,
        )
        log.info("port %s: %s, listening at %s:%d", self.port.name, self.port.type, self.port.host, self.port.number)

    @property
    def listening(self) -> bool:
        return self._server is not None

    def change(self, port: Port) -> None:
        """Take up new settings; connections that stand keep the TLS that they have."""
        before, self.port = self.port, port
        if before.limits != port.limits:
            self.heads = new_memo()
        if any(getattr(before, name) != getattr(port, name) for name in TLS_FIELDS):
            self.renew_contexts()
            self.names = _names(port)

    def renew_contexts(self) -> None:
        self._context, self._watching = self._make_contexts(self.port)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def abandon(self) -> None:
        """Handshakes that have not come to their end."""
        for layer in list(self._handshakes):
            layer.abort()

    def _protocol(self) -> asyncio.Protocol:
        if self._context is None:
            return _Plain(self)
        return TLSLayer(self._ready, self._failed, made=self._made)

    # --- connections ---

    def _made(self, layer: TLSLayer) -> ssl.SSLContext | None:
        """A socket is there: the context for its handshake; None where there is no room."""
        if not self.admit(layer.peer_address):
            return None
        self._handshakes[layer] = now = asyncio.get_running_loop().time()
        # Handshakes from where they succeed are not watched, so that watching costs nobody who means well.
        trusted_since = self._proven.get(layer.peer_address)
        return self._watching if trusted_since is None or now < trusted_since else self._context

    def admit(self, peer: str) -> bool:
        """Whether a connection is let in at all; beyond the limits a few are, to be told so (`crowded`)."""
        limits = self.port.limits
        if self.count >= limits.connections:
            self._make_room(PATIENCE if self.count < limits.connections + CROWD else 0.0)
        if self.count >= limits.connections + CROWD or self._addresses[peer] >= limits.connections_per_address + CROWD:
            self.node.metrics.handshakes[self.port.name, "dropped"] += 1
            return False
        self.count += 1
        self._addresses[peer] += 1
        return True

    def _make_room(self, patience: float) -> bool:
        """Whoever is without a handshake for longest, and for longer than `patience` seconds, gives way."""
        layer = next(iter(self._handshakes), None)
        if layer is None or asyncio.get_running_loop().time() - self._handshakes[layer] < patience:
            return False
        layer.fail("no handshake, and others were waiting")
        return True

    def crowded(self, peer: str) -> bool:
        limits = self.port.limits
        return self.count > limits.connections or self._addresses[peer] > limits.connections_per_address

    def gone(self, peer: str) -> None:
        self.count -= 1
        self._addresses[peer] -= 1
        if not self._addresses[peer]:
            del self._addresses[peer]

    def _failed(self, layer: TLSLayer, words: str) -> None:
        if self._handshakes.pop(layer, None) is not None:
            self.gone(layer.peer_address)
            if layer.refused_certificate:
                self._proven.put(layer.peer_address, asyncio.get_running_loop().time() + WATCHED)
            chain = layer.refused_chain()
            told, reason = self._told(words, chain)
            self.node.handshake_failed(self.port.name, layer.peer_address, told, chain, reason)

    def _told(self, words: str, chain: list[bytes]) -> tuple[str, Reason | None]:
        """OpenSSL's words, with our own for what it refused, which tell more, and the reason that we would give."""
        if not chain or self.port.truststore is None:
            return words, None
        try:
            leaf, *above = map(from_der, chain[: chains.MAX_INTERMEDIATES + 1])
        except CertificateError as error:
            return f"{words}: {error}", None
        verdict = chains.judge(leaf, tuple(above), self.port.truststore, time.time())
        return (words if verdict.reason is None else f"{words}: {verdict.words}"), verdict.reason

    def _ready(self, layer: TLSLayer) -> Application:
        since = self._handshakes.pop(layer, 0.0)
        if self._proven.get(layer.peer_address) is None:
            self._proven.put(layer.peer_address, since)
        # Whoever is through with it goes before those who are not: silence costs the others nothing.
        while self.count > self.port.limits.connections and self._make_room(0.0):
            pass
        connection = self.serve(layer, layer.peer_address, secure=True)
        connection.name_asked = layer.name_asked
        connection.crowded = self.crowded(layer.peer_address)
        self.node.metrics.handshakes[self.port.name, "crowded" if connection.crowded else "done"] += 1
        try:
            shown = layer.peer_chain()
        except CertificateError as error:
            self.node.handshake_failed(self.port.name, layer.peer_address, str(error))
            connection.abort()
            return Early()
        if shown is not None:
            connection.certificate, connection.intermediates = shown
            connection.proof = Proof.TLS
        return connection

    def serve(self, transport: Any, peer: str, *, secure: bool) -> "_ClientConnection":
        kind = Registrar if self.port.type is PortType.REGISTRATION else _ClientConnection
        return kind(self, transport, peer, secure=secure)

    def sweep(self, now: float) -> None:
        for layer, since in list(self._handshakes.items()):
            if now - since > self.port.limits.handshake_timeout:
                layer.fail(f"no handshake within {self.port.limits.handshake_timeout:.0f} s")


def _names(port: Port) -> ServerNames | None:
    """Which of several certificates is for which name; None where there are not several."""
    return ServerNames(port.keystores) if port.further_keystores else None


class _ClientConnection(ServerConnection):
    """A client's connection, counted by its listener.

    `name_asked`: the server name that it was made for, where the port has several certificates.
    """

    def __init__(self, listener: Listener, transport: Any, peer: str, *, secure: bool) -> None:
        self._listener = listener
        self.name_asked: str | None = None
        super().__init__(listener.node, listener.port, transport, peer, secure=secure, heads=listener.heads)

    def _misdirected(self, head: Head) -> str:
        names = self._listener.names
        if names is None or not head.host:
            return ""
        host = head.host.decode("latin-1")
        return "" if names.admits(self.name_asked, host) else host

    def _who(self, head: Head) -> object:
        return self.caller if self._listener.names is None else (self.caller, head.host)

    def _gone(self) -> None:
        if self in self.node.connections:
            self._listener.gone(self.peer)
        super()._gone()


class _Plain(PlainLayer):
    """A port without TLS."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        name = transport.get_extra_info("peername")
        peer = name[0] if name else ""
        if self._listener.admit(peer):
            self.application = connection = self._listener.serve(transport, peer, secure=False)
            connection.crowded = self._listener.crowded(peer)
        else:
            transport.abort()  # type: ignore[attr-defined]


class Registrar(_ClientConnection):
    """A connection at a registration port: it registers a tunnel, or is refused."""

    speaks = AT_REGISTRATION

    def _begin(self, head: Head, trace_id: str, body: bytes | None = None) -> None:
        self.refresh()
        exchange = Exchange(self, head, f"{time.time_ns():032x}")
        self.exchange = self._filling = exchange
        self.node.exchanges.add(exchange)
        try:
            refusal = self._link(head) if head.target == link.PATH else self._register(head)
        except MessageError as error:
            refusal = error.reason, error.words
        if refusal is not None:
            log.warning("port %s: registration from %s refused: %s: %s", self.port.name, self.peer, *refusal)
            exchange.refuse(*refusal)

    def _link(self, head: Head) -> tuple[Reason, str] | None:
        """Why not; None when this connection is the console's link from now on."""
        links = self.node.links
        if links is None:
            return GatewayReason.NOT_FOUND, "this node is not enrolled: it takes no link"
        link.read_upgrade(head)
        if not self.port.ip_access.admits(parse_address(self.peer)):
            return GatewayReason.IP_DENIED, f"ip_access of port {self.port.name}"
        if self.certificate is None or not links.admits(self.certificate.der):
            return IdentityReason.CERTIFICATE_UNTRUSTED, "only the console opens a link"
        self._hand_over(link.upgraded())
        gone = partial(self._listener.gone, self.peer)
        self.transport.set_application(links.take_over(self.transport, gone))
        return None

    def _hand_over(self, answer: bytes) -> None:
        """Answer the upgrade; from here on the connection is another's, and the listener goes on counting it."""
        self._parser.stop()
        self.write(answer)
        self.flush()
        exchange = self.exchange
        if exchange is not None:
            exchange.done = True
            self.node.exchanges.discard(exchange)
        self.exchange = self._filling = None
        self.over = True
        self.node.connections.discard(self)
        self.transport.notice_silence()

    def _register(self, head: Head) -> tuple[Reason, str] | None:
        """Why not; None when this connection is a tunnel from now on."""
        if head.target != handshake.PATH:
            return GatewayReason.NOT_FOUND, "only registrations are taken here"
        if head.method != "POST" or head.upgrade.lower() != handshake.PROTOCOL.lower().encode() or head.length:
            return (
                GatewayReason.REQUEST_MALFORMED,
                f"a registration is an empty POST with Upgrade: {handshake.PROTOCOL}",
            )
        if not self.port.ip_access.admits(parse_address(self.peer)):
            return GatewayReason.IP_DENIED, f"ip_access of port {self.port.name}"
        if self.certificate is None or self.port.truststore is None:
            return IdentityReason.CERTIFICATE_REQUIRED, "none shown"
        verdict = chains.judge(self.certificate, self.intermediates, self.port.truststore, time.time())
        if verdict.reason is not None:
            return verdict.reason, verdict.words
        asked = handshake.read_registering(head.spoken)
        registration = self.node.snapshot.registrations.get(asked.registration)
        if registration is None or registration.port != self.port.name or not registration.enabled:
            return (
                IdentityReason.CERTIFICATE_UNMAPPED,
                f"there is no registration {asked.registration} at {self.port.name}",
            )
        if not registration.admits(self.certificate.sha256):
            return (
                IdentityReason.CERTIFICATE_UNMAPPED,
                f"the certificate is not that of registration {registration.name}",
            )
        if self.node.draining:
            return GatewayReason.OVERLOADED, "the node stops"
        self._hand_over(handshake.accepted(self.node.worker, self.node.workers))
        clock = asked.time - time.time()
        gone = partial(self._listener.gone, self.peer)
        pool = self.node.tunnels[self.port.name]
        shown = self.certificate.sha256
        self.transport.set_application(
            pool.register(registration, asked.nonce, clock, self.transport, self.peer, shown, gone)
        )
        return None
