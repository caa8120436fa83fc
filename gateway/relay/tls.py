"""TLS between a socket and an application protocol.

Our own layer over `ssl.MemoryBIO`, because the event loops' layers send no alert when a handshake fails, show
no failed handshake to anybody, and hide the chain that the peer sent. Measured as fast as uvloop's own.

Below it is a transport of the loop; above it an application that sees what an asyncio protocol sees, and for
which this layer is the transport.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any, Protocol

from gateway.core.server_names import ServerNames
from gateway.core.snapshot import CipherSet, ClientAuth, Keystore, Port, TLSVersion
from gateway.relay import openssl
from identity.core.certificates import Certificate, CertificateError, from_der
from identity.core.chains import MAX_INTERMEDIATES, Truststore

READ = 16 * 1024  # bytes asked of the TLS object at once; a record has no more


def end_with_reset(transport: asyncio.BaseTransport) -> None:
    """Have the peer see a reset when the connection is given up, which nobody takes for the end of an answer.

    An answer whose end is the connection's (HTTP/1.0) would look whole without it, wherever the caller does not
    look for TLS's own goodbye.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):  # the peer was faster
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


_RESET = struct.pack("ii", 1, 0)  # on, 0 seconds (socket(7))


class Application(Protocol):
    """What stands above: told of bytes and of the end."""

    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> None: ...
    def connection_lost(self, error: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class HandshakeFailed(ConnectionError):
    """No TLS connection came about; the message is OpenSSL's reason, or ours."""


# Of TLS 1.2, in OpenSSL's words. Both have forward secrecy; what `COMPATIBLE` adds has its integrity in a MAC that
# comes before the encryption, which is no known way in but a history of them (Lucky 13).
CIPHERS = {
    CipherSet.STRONG: "ECDHE+AESGCM:ECDHE+CHACHA20",
    CipherSet.COMPATIBLE: "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!AESCCM",
}
_VERSIONS = {TLSVersion.TLS_1_2: ssl.TLSVersion.TLSv1_2, TLSVersion.TLS_1_3: ssl.TLSVersion.TLSv1_3}


def port_context(port: Port, prepare: Callable[[ssl.SSLContext], None] = lambda context: None) -> ssl.SSLContext | None:
    """The context for a port's handshakes, with one for each further certificate behind it; None without TLS.

    A change of configuration makes a new one and never touches a live one. All of them trust and ask alike, so that
    nothing but the certificate hangs on the name that a client asks for, and no session of one is one of another's
    (CVE-2025-23419, CVE-2025-23048). `prepare` is called with each.
    """
    if not port.keystores:
        return None
    contexts = {keystore.name: _server_context(keystore, port) for keystore in port.keystores}
    for context in contexts.values():
        prepare(context)
    first = contexts[port.keystores[0].name]
    if len(contexts) > 1:
        names = ServerNames(port.keystores)

        def choose(connection: Any, asked: str | None, _: ssl.SSLContext) -> None:
            connection.name_asked = asked
            connection.context = contexts[names.choose(asked).name]

        first.sni_callback = choose
    return first


def _server_context(keystore: Keystore, port: Port) -> ssl.SSLContext:
    client_auth, truststore = port.client_auth, port.truststore
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _common(context, port)
    _load(context, keystore)
    context.set_alpn_protocols(["http/1.1"])
    if client_auth is not ClientAuth.PASSWORD and truststore is not None:
        context.verify_mode = ssl.CERT_REQUIRED if client_auth is ClientAuth.REQUIRE else ssl.CERT_OPTIONAL
        trust(context, truststore)
        openssl.name_authorities(context, truststore.anchors)
        # A resumed session would carry an identity past a changed truststore: none is kept or offered, and a
        # connection that is resumed all the same is closed after its handshake.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
        openssl.keep_no_sessions(context)
    return context


def client_context(
    keystore: Keystore | None, truststore: Truststore | None, port: Port | None = None
) -> ssl.SSLContext:
    """A context for dialling out: the server's name is always checked. No truststore: the system's authorities.

    `port`: the internal port that dials, which says how old TLS may be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _common(context, port)
    if truststore is None:
        context.load_default_certs()
    else:
        trust(context, truststore)
    if keystore is not None:
        _load(context, keystore)
    return context


def _common(context: ssl.SSLContext, port: Port | None) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if port is not None:
        context.minimum_version = _VERSIONS[port.min_version]
        context.set_ciphers(CIPHERS[port.ciphers])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE


def trust(context: ssl.SSLContext, truststore: Truststore) -> None:
    # An intermediate in a truststore is an anchor: a chain may end there.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if truststore.anchors:
        context.load_verify_locations(cadata=b"".join(anchor.der for anchor in truststore.anchors))


def _load(context: ssl.SSLContext, keystore: Keystore) -> None:
    load_pair(context, b"".join(certificate.pem().encode() for certificate in keystore.chain) + keystore.key)


def load_pair(context: ssl.SSLContext, pem: bytes) -> None:
    """`load_cert_chain` reads files only: the key goes through memory that has no name, and never to a disk.

    `pem`: the certificate, what is above it, and the key.
    """
    handle = os.memfd_create("keystore", os.MFD_CLOEXEC)
    try:
        with open(handle, "wb", closefd=False) as memory:
            memory.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


def watch(context: ssl.SSLContext) -> None:
    """Have handshakes under this context keep what certificate the peer sends, so that a failed one can be told of.

    OpenSSL drops a chain that it refuses, and the standard library has no callback for it; there is one for the
    messages of the protocol, without a promise that it stays, and at 2 µs for each. So it is for those alone of
    whom little good is known, and `TLSLayer` takes it off the connection when the handshake is done.
    """
    context._msg_callback = _keep_certificate  # type: ignore[attr-defined]


def _keep_certificate(connection: Any, direction: str, version: Any, content: Any, message: Any, data: bytes) -> None:
    if direction == "read" and message is _CERTIFICATE:
        connection.certificate_message = version, data


_CERTIFICATE = ssl._TLSMessageType.CERTIFICATE  # type: ignore[attr-defined]
_UNWATCHED = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def certificates_in(message: bytes, *, tls13: bool) -> list[bytes]:
    """DER of the certificates in a Certificate message (RFC 8446, section 4.4.2; RFC 5246, section 7.4.2), leaf first.

    Raises ValueError where it is cut short.
    """
    found: list[bytes] = []
    at = 4  # type and length
    if tls13:
        at += 1 + message[at]
    end = at + 3 + int.from_bytes(message[at : at + 3])
    at += 3
    while at < end:
        size = int.from_bytes(message[at : at + 3])
        der = message[at + 3 : at + 3 + size]
        if len(der) != size or not size:
            raise ValueError("a Certificate message that is cut short")
        found.append(der)
        at += 3 + size
        if tls13:
            at += 2 + int.from_bytes(message[at : at + 2])
    return found


class TLSLayer(asyncio.Protocol):
    """One connection. `ready(layer)` is called once the handshake is done and returns the application above.

    `failed(layer, words)` is called where there was no handshake. A server's context comes from `made(layer)`, first
    of all, which knows the peer's address then; None lets nobody in.
    """

    def __init__(
        self,
        ready: Callable[["TLSLayer"], Application],
        failed: Callable[["TLSLayer", str], None],
        *,
        context: ssl.SSLContext | None = None,
        server_name: str | None = None,
        made: Callable[["TLSLayer"], ssl.SSLContext | None] | None = None,
    ) -> None:
        """`context`, `server_name`: of a client."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject = None  # type: ignore[assignment]  # until the connection is made
        self._object: Any = None
        self._context, self._server_name = context, server_name
        self._ready, self._failed, self._made = ready, failed, made
        self._application: Application | None = None
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._paused = False
        self._over = False
        self.refused_certificate = False  # whether the handshake failed for what the peer showed
        self.clean_end = False  # whether the peer said that it ends, in TLS's own words
        self.peer_address = ""

    # --- as the protocol of the socket ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        peer = transport.get_extra_info("peername")
        self.peer_address = peer[0] if peer else ""
        context = self._made(self) if self._made is not None else self._context
        if context is None:
            self.abort()
            return
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=self._made is not None, server_hostname=self._server_name
        )
        # The C object below SSLObject: one Python call less per read and write on the hot path, and the only
        # place where Python 3.11 shows the chain that the peer sent.
        self._object = self._tls._sslobj  # type: ignore[attr-defined]
        if not self._tls.server_side:
            self._handshake()

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        if self._application is None and not self._handshake():
            return
        self._pump()

    def eof_received(self) -> bool:
        if self._application is None:
            if not self._over:
                self._over = True
                self._failed(self, "the peer ended the connection during the handshake")
        elif not self._over:
            self._application.eof_received()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if self._application is not None:
            application, self._application = self._application, None
            application.connection_lost(error)
        elif not self._over:
            self._failed(self, "the peer ended the connection during the handshake")
        self._over = True

    def pause_writing(self) -> None:
        if self._application is not None:
            self._application.pause_writing()

    def resume_writing(self) -> None:
        if self._application is not None:
            self._application.resume_writing()

    def _handshake(self) -> bool:
        if self._over:
            return False
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            self._flush()  # the alert, which tells the peer why
            self.refused_certificate = isinstance(error, ssl.SSLCertVerificationError)
            self.fail(_words(error))
            return False
        self._flush()
        if self._tls.server_side and self._tls.context.verify_mode != ssl.CERT_NONE and self._tls.session_reused:
            self.fail("a resumed session, on a port that asks for certificates")
            return False
        if self._tls.server_side:
            self._acknowledge()
        if hasattr(self._tls, "certificate_message"):
            del self._tls.certificate_message
            # What was watched is over: the context matters no more, but for its callback.
            self._tls.context = _UNWATCHED
        self._application = self._ready(self)
        return True

    def _acknowledge(self) -> None:
        """Acknowledge the client's last flight at once.

        Without session tickets the server has nothing to send then, the kernel would wait 40 ms for something to
        send it along with, and a client that leaves Nagle's algorithm on holds its request back so long.
        """
        sock = self._transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def fail(self, words: str) -> None:
        """End a connection that has no application yet."""
        if not self._over:
            self._over = True
            self._failed(self, words)
            self._transport.close()

    def _pump(self) -> None:
        read, incoming, application = self._object.read, self._incoming, self._application
        try:
            while not self._paused and not self._over and application is not None:
                data = read(READ)
                if not data:
                    self._ended()
                    return
                application.data_received(data)
                if not incoming.pending:
                    # Nothing is left, not even in OpenSSL, which takes no byte of a record that it was not asked
                    # for; to ask once more would only raise, which costs more than the reading.
                    break
                application = self._application
        except ssl.SSLWantReadError:
            if self._outgoing.pending:  # an answer to a key update
                self._flush()
        except ssl.SSLZeroReturnError:
            self._ended()
        except ssl.SSLError as error:
            self._flush()
            self._over = True
            self._transport.close()
            lost, self._application = self._application, None
            if lost is not None:
                lost.connection_lost(HandshakeFailed(_words(error)))

    def _ended(self) -> None:
        self.clean_end = True
        if self._application is not None:
            self._application.eof_received()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    # --- as the transport of the application ---

    def notice_silence(self) -> None:
        """Let the kernel end the connection when the peer is gone without a word, also while nothing is pinged.

        Data that is not acknowledged within 10 s, or three probes 2 s apart after 5 s of silence (tcp(7)).
        """
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in (
                (socket.TCP_KEEPIDLE, 5),
                (socket.TCP_KEEPINTVL, 2),
                (socket.TCP_KEEPCNT, 3),
                (socket.TCP_USER_TIMEOUT, 10_000),
            ):
                sock.setsockopt(socket.IPPROTO_TCP, option, value)

    def set_application(self, application: Application) -> None:
        self._application = application

    def write(self, data: bytes) -> None:
        if self._over:
            return
        try:
            self._object.write(data)
        except ssl.SSLError:
            self.abort()
            return
        self._transport.write(self._outgoing.read())

    def close(self) -> None:
        if self._over:
            return
        self._over = True
        with contextlib.suppress(ssl.SSLError):  # the peer's own goodbye is not waited for
            self._object.shutdown()
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._over = True
        self._transport.abort()

    def get_extra_info(self, name: str) -> Any:
        return self._transport.get_extra_info(name)

    def is_closing(self) -> bool:
        return self._over or self._transport.is_closing()

    def pause_reading(self) -> None:
        if not self._paused:
            self._paused = True
            if not self._transport.is_closing():
                self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
                asyncio.get_running_loop().call_soon(self._pump)  # what was decrypted already

    # --- what the handshake showed ---

    def peer_chain(self) -> tuple[Certificate, tuple[Certificate, ...]] | None:
        """The peer's certificate and the intermediates that it sent; None where it showed none.

        Raises:
            CertificateError: OpenSSL took what we cannot read.
        """
        chain = self._object.get_unverified_chain()
        if not chain or chain[0] is None:  # a server's view of a client without a certificate is [None]
            return None
        if len(chain) > MAX_INTERMEDIATES + 1:
            raise CertificateError(f"{len(chain)} certificates were sent; at most {MAX_INTERMEDIATES + 1} are read")
        leaf, *above = (_remembered(link.public_bytes(2)) for link in chain)  # 2: DER
        return leaf, tuple(above)

    def refused_chain(self) -> list[bytes]:
        """DER of what the peer showed in a handshake that failed, leaf first; [] where nothing was seen."""
        version, message = getattr(self._tls, "certificate_message", (None, b""))
        try:
            return certificates_in(message, tls13=version is ssl.TLSVersion.TLSv1_3) if message else []
        except (ValueError, IndexError):
            return []

    @property
    def name_asked(self) -> str | None:
        """The server name that the client asked for, where the port has several certificates."""
        return getattr(self._tls, "name_asked", None)


_parsed: dict[bytes, Certificate] = {}
_PARSED_LIMIT = 2048


def _remembered(der: bytes) -> Certificate:
    """Parsed certificates, for the same few come again and again; a value, so sharing it is safe."""
    known = _parsed.get(der)
    if known is None:
        known = from_der(der)
        if len(_parsed) >= _PARSED_LIMIT:
            _parsed.clear()
        _parsed[der] = known
    return known


def _words(error: ssl.SSLError) -> str:
    verify = getattr(error, "verify_message", "")
    if verify:
        return f"certificate verify failed: {verify}"
    return (error.reason or str(error)).replace("_", " ").lower()
