"""Certificates at ports: judged alike on both paths, shown by name, and never carried from one name to another."""

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from identity.core import chains
from tests.identity.forging import forge, list_of, name, usage, with_sha1
from tests.minting import Minted, mint
from tests.ports import free_port
from tests.relay.conftest import forum_pki, forum_topology
from tests.relay.installation import Backend, Installation, read_answer

ROOT = forge("Corpus Root", authority=True)
SUB = forge("Corpus Sub", ROOT, authority=True)
REVOKED_SUB = forge("Corpus Revoked Sub", ROOT, authority=True)
NARROW = forge(
    "Corpus Narrow", ROOT, authority=True,
    extensions=[(x509.NameConstraints([x509.DNSName("good.example")], [x509.DirectoryName(name(("O", "Bad")))]), True)],
)  # fmt: skip
SHORT = forge("Corpus Short", ROOT, basic=(x509.BasicConstraints(True, 0), True))
BELOW_SHORT = forge("Corpus Below", SHORT, authority=True)
SERVERS_ONLY = forge(
    "Corpus Servers", ROOT, authority=True,
    extensions=[(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)],
)  # fmt: skip
KEYED = forge("Corpus Keyed", ROOT, authority=True, extensions=[(x509.SubjectKeyIdentifier(b"its key"), False)])
REVOKED, REVOKED_BELOW = forge("revoked", ROOT), forge("revoked", SUB)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
STRANGE_KEY = x509.AuthorityKeyIdentifier(b"another key", None, None)


def dns(value: str) -> tuple[x509.ExtensionType, bool]:
    return x509.SubjectAlternativeName([x509.DNSName(value)]), False


def sha1(minted: Minted) -> Minted:
    return Minted(x509.load_der_x509_certificate(with_sha1(minted.der, ROOT)), minted.key)


# Who shows it, with which intermediates, and whether it is trusted.
CORPUS: dict[str, tuple[Minted, tuple[Minted, ...], bool]] = {
    "old: a common name and no more": (forge("old", ROOT), (), True),
    "old: RSA 2048": (forge("old", ROOT, key="rsa"), (), True),
    "Ed25519": (forge("x", ROOT, key="ed25519"), (), True),
    "P-384": (forge("x", ROOT, key="ec384"), (), True),
    "an empty subject and a critical alternative name": (
        forge(x509.Name([]), ROOT, extensions=[(dns("a.example")[0], True)]), (), True),
    "an intermediate that was sent": (forge("x", SUB), (SUB,), True),
    "an intermediate that was not": (forge("x", SUB), (), False),
    "name constraints that admit": (forge("x", NARROW, extensions=[dns("a.good.example")]), (NARROW,), True),
    "name constraints that do not": (forge("x", NARROW, extensions=[dns("a.bad.example")]), (NARROW,), False),
    "a wildcard wider than the constraint": (forge("x", NARROW, extensions=[dns("*.example")]), (NARROW,), False),
    "an excluded directory name": (forge(name(("O", "Bad"), "x"), NARROW), (NARROW,), False),
    "a path that is too long": (forge("x", BELOW_SHORT), (BELOW_SHORT, SHORT), False),
    "an authority for servers alone": (forge("x", SERVERS_ONLY), (SERVERS_ONLY,), False),
    "for servers": (mint("CN=x", ROOT, purpose="server"), (), False),
    "key usage without a signature": (forge("x", ROOT, extensions=[(usage(key_encipherment=True), True)]), (), False),
    "an unknown critical extension": (forge("x", ROOT, extensions=[(UNKNOWN, True)]), (), False),
    "expired": (forge("x", ROOT, days=(-9, -1)), (), False),
    "not yet valid": (forge("x", ROOT, days=(1, 9)), (), False),
    "RSA 1024": (forge("x", ROOT, key="rsa1024"), (), False),
    "SHA-1": (sha1(forge("x", ROOT)), (), False),
    "SHA-224": (forge("x", ROOT, hash_=hashes.SHA224()), (), False),
    "revoked": (REVOKED, (), False),
    "revoked by an intermediate that was sent": (REVOKED_BELOW, (SUB,), False),
    "below one that was revoked": (forge("x", REVOKED_SUB), (REVOKED_SUB,), False),
    "an authority": (SUB, (), False),
    "another key identifier": (forge("x", KEYED, extensions=[(STRANGE_KEY, False)]), (KEYED,), False),
    "the right key identifier": (
        forge("x", KEYED, extensions=[(x509.AuthorityKeyIdentifier(b"its key", None, None), False)]), (KEYED,), True),
    "an impostor's": (forge("x", forge("Corpus Root", authority=True)), (), False),
}  # fmt: skip
LISTS = [
    list_of(ROOT, [REVOKED.x509.serial_number, REVOKED_SUB.x509.serial_number]),
    list_of(SUB, [REVOKED_BELOW.x509.serial_number]),
]


def crl_pem(der: bytes) -> str:
    return ssl.DER_cert_to_PEM_cert(der).replace("CERTIFICATE", "X509 CRL")


def trusting_topology(backend: int) -> dict[str, Any]:
    topology = forum_topology(backend)
    partners = topology["truststores"][0]
    partners["certificates"] = ["pki/partner-ca.pem", "pki/root.pem"]
    partners["crls"] = [crl_pem(der) for der in LISTS]
    topology["keystores"].append({"name": "b", "certificate": "pki/b.pem", "private_key": "pki/b.key"})
    https = next(port for port in topology["ports"] if port["name"] == "https")
    common = {"node": "inside", "type": "regular", "service_access": {"default": "allow"}}
    two = {"keystore": "inside-server", "keystores": ["b"], "truststore": "partners"}
    for port, more in {
        "named": {"client_auth": "request", "tls": two},
        "asks-nobody": {"client_auth": "password", "tls": {"keystore": "inside-server", "keystores": ["b"]}},
        "strict": {"client_auth": "require", "tls": https["tls"]},
        "modern": {"client_auth": "request", "tls": {**https["tls"], "min_version": 1.3}},
        "lenient": {"client_auth": "request", "tls": {**https["tls"], "ciphers": "compatible"}},
    }.items():
        topology["ports"].append({"name": port, "bind": f"127.0.0.1:{free_port()}", **common, **more})
    return topology


def trusting_pki() -> dict[str, Minted]:
    pki = forum_pki()
    server = mint("CN=b", pki["server-ca"], purpose="server", san=["dns:b.example", "dns:also-b.example"])
    return pki | {"root": ROOT, "b": server}


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory, shared_backend: Backend) -> Iterator[Installation]:
    """Both nodes run, and are registered. Nothing may be changed in it."""
    installation = Installation(
        tmp_path_factory.mktemp("trusting"), trusting_pki(), trusting_topology(shared_backend.port)
    )
    try:
        installation.start("edge", "inside")
        yield installation.ready()
    finally:
        installation.close()


def client(folder: Path, minted: Minted, above: tuple[Minted, ...]) -> ssl.SSLContext:
    """Of a client that shows any certificate, however bad."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    (folder / "chain.pem").write_text(minted.pem + "".join(link.pem for link in above))
    (folder / "key.pem").write_text(minted.key_pem)
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    return context


def outcome(installation: Installation, port: str, context: ssl.SSLContext) -> str:
    """`trusted`, the reason why not, or `handshake` where there was no answer at all."""
    try:
        with socket.create_connection(installation.address(port), 30) as plain:
            plain.settimeout(30)
            with context.wrap_socket(plain, server_hostname="localhost") as sock:
                sock.sendall(b"GET /open HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = read_answer(sock.makefile("rb"))
    except (ssl.SSLError, ConnectionError):
        return "handshake"
    if answer.status == 200:
        return "trusted"
    reason = str(answer.json["reason"])
    return "trusted" if reason == "certificate_unmapped" else reason


@pytest.mark.parametrize("case", CORPUS)
def test_one_function_judges_on_every_path(trusting: Installation, tmp_path: Path, case: str) -> None:
    leaf, above, trusted = CORPUS[case]
    anchors = (trusting.pki["partner-ca"].certificate, ROOT.certificate)
    lists = tuple(chains.load_crl(der, anchors, of_others=True) for der in LISTS)
    store = chains.Truststore("partners", anchors, lists)
    verdict = chains.judge(leaf.certificate, tuple(each.certificate for each in above), store, time.time())
    context = client(tmp_path, leaf, above)
    direct, through_tunnel = outcome(trusting, "https", context), outcome(trusting, "ext", context)
    assert direct == through_tunnel
    assert (direct == "trusted") == (verdict.reason is None) == trusted, (direct, verdict.words)
    if direct not in ("trusted", "handshake"):
        assert direct == verdict.reason


def test_what_the_handshake_refused_is_told_in_our_words_too(trusting: Installation, tmp_path: Path) -> None:
    for case, words in (("RSA 1024", "RSA below 2048 is refused"), ("SHA-1", "SHA-1 is refused")):
        leaf, above, _ = CORPUS[case]
        if outcome(trusting, "https", client(tmp_path, leaf, above)) == "handshake":
            outcome(trusting, "https", client(tmp_path, leaf, above))  # from now on its address is watched
            trusting.until(
                lambda words=words: words in (trusting.folder / "inside.log").read_text(), f"the log tells: {words}"
            )


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda each: each.name)
@pytest.mark.parametrize(
    ("shown", "alert"),
    [
        pytest.param(forge("x", forge("Unknown", authority=True)), "UNKNOWN_CA", id="of-an-unknown-authority"),
        pytest.param(CORPUS["an impostor's"][0], "DECRYPT_ERROR", id="of-an-impostor"),
        pytest.param(CORPUS["expired"][0], "CERTIFICATE_EXPIRED", id="expired"),
        pytest.param(None, "CERTIFICATE_REQUIRED", id="none-where-one-is-required"),
    ],
)
def test_a_caller_whose_handshake_fails_is_told_why_by_an_alert(
    trusting: Installation, tmp_path: Path, version: ssl.TLSVersion, shown: Minted | None, alert: str
) -> None:
    """Without one each of these looks to him like a connection that broke."""
    context = client(tmp_path, shown, ()) if shown else trusting.context()
    context.minimum_version = context.maximum_version = version
    with pytest.raises(ssl.SSLError) as caught, connected(trusting, "strict", context, "localhost") as sock:
        sock.recv(1)  # of TLS 1.3 the client hears after its own end of the handshake
    if shown is None and version is ssl.TLSVersion.TLSv1_2:
        alert = "HANDSHAKE_FAILURE"  # there is no better one before TLS 1.3 (RFC 8446, section 6.2)
    assert str(caught.value.reason).endswith(f"_ALERT_{alert}")


# --- which certificate, and for whom ---


@contextlib.contextmanager
def connected(
    installation: Installation, port: str, context: ssl.SSLContext, asked: str | None, session: Any = None
) -> Iterator[ssl.SSLSocket]:
    with socket.create_connection(installation.address(port), 30) as plain:
        plain.settimeout(30)
        with context.wrap_socket(plain, server_hostname=asked, session=session) as sock:
            yield sock


def ask(sock: ssl.SSLSocket, host: str, target: str = "/open") -> Any:
    sock.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    stream = sock.makefile("rb")
    return read_answer(stream)


def shown(sock: ssl.SSLSocket) -> str:
    return x509.load_der_x509_certificate(sock.getpeercert(True) or b"").subject.rfc4514_string()


@pytest.mark.parametrize("port", ["named", "asks-nobody"])
def test_a_name_chooses_the_certificate_and_nothing_else(trusting: Installation, port: str) -> None:
    user = "alice" if port == "named" else "Default"
    for asked, subject in (("b.example", "CN=b"), ("localhost", "CN=localhost,O=Acme,OU=Inside"), (None, "OU=Inside")):
        with connected(trusting, port, trusting.context("alice"), asked) as sock:
            assert subject in shown(sock)
            assert ask(sock, asked or "localhost").json["user"] == user


def test_a_host_that_the_certificate_is_not_for_is_misdirected(trusting: Installation) -> None:
    with connected(trusting, "named", trusting.context("alice"), "b.example") as sock:
        assert ask(sock, "b.example").status == 200
        assert ask(sock, "also-b.example:8443").status == 200
        refused = ask(sock, "localhost")
        assert (refused.status, refused.json["reason"]) == (421, "misdirected_request")
        assert ask(sock, "b.example").status == 200, "the connection goes on for what it is for"
        assert ask(sock, "localhost").status == 421, "what is remembered of a request is remembered with its host"
    with connected(trusting, "named", trusting.context("alice"), None) as sock:
        assert ask(sock, "127.0.0.1").status == 200
        assert ask(sock, "b.example").status == 421
    with connected(trusting, "https", trusting.context("alice"), "localhost") as sock:
        assert ask(sock, "anything.example").status == 200, "one certificate: every host is taken"


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize(("first", "second"), [("localhost", "b.example"), ("b.example", "localhost"),
                                               ("localhost", "localhost")])  # fmt: skip
def test_no_session_is_resumed_where_certificates_are_asked_for(
    trusting: Installation, version: ssl.TLSVersion, first: str, second: str
) -> None:
    """Neither by ticket nor by session id, on the same name or across: identity comes from a handshake alone."""
    context = trusting.context("alice")
    context.minimum_version = context.maximum_version = version
    with connected(trusting, "named", context, first) as sock:
        assert ask(sock, first).json["user"] == "alice"
        session = sock.session
        sock.unwrap()
    with connected(trusting, "named", context, second, session) as sock:
        assert ask(sock, second).json["user"] == "alice"
        assert not sock.session_reused


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_a_session_of_a_port_that_asks_nobody_is_worth_nothing_at_one_that_asks(
    trusting: Installation, version: ssl.TLSVersion
) -> None:
    context = trusting.context("alice")
    context.minimum_version = context.maximum_version = version
    with connected(trusting, "asks-nobody", context, "localhost") as sock:
        assert ask(sock, "localhost").json["user"] == "Default"
        session = sock.session
        sock.unwrap()
    with connected(trusting, "named", context, "localhost", session) as sock:
        assert ask(sock, "localhost").json["user"] == "alice"
        assert not sock.session_reused


# --- what is on the wire ---


def certificate_request(installation: Installation, port: str, asked: str, version: ssl.TLSVersion) -> bytes:
    """The message by which the port asks for a certificate."""
    seen: list[bytes] = []

    def note(connection: Any, direction: str, version: Any, content: Any, message: Any, data: bytes) -> None:
        if direction == "read" and getattr(message, "name", "") == "CERTIFICATE_REQUEST":
            seen.append(data)

    context = installation.context("alice")
    context.minimum_version = context.maximum_version = version
    context._msg_callback = note  # type: ignore[attr-defined]
    with connected(installation, port, context, asked) as sock:
        ask(sock, asked)
    (message,) = seen
    return message


def authorities_in(message: bytes, version: ssl.TLSVersion) -> list[bytes]:
    """Distinguished names in a CertificateRequest (RFC 5246, section 7.4.4; RFC 8446, sections 4.2.4 and 4.3.2)."""
    if version is ssl.TLSVersion.TLSv1_2:
        at = 4 + 1 + message[4]
        at += 2 + int.from_bytes(message[at : at + 2])
        names = message[at:]
    else:
        at, names = 4 + 1 + message[4] + 2, b"\0\0"
        while at < len(message):
            kind, size = int.from_bytes(message[at : at + 2]), int.from_bytes(message[at + 2 : at + 4])
            if kind == 47:
                names = message[at + 4 : at + 4 + size]
            at += 4 + size
    assert int.from_bytes(names[:2]) == len(names) - 2
    at, found = 2, []
    while at < len(names):
        size = int.from_bytes(names[at : at + 2])
        found.append(names[at + 2 : at + 2 + size])
        at += 2 + size
    return found


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("asked", ["localhost", "b.example"])
def test_a_port_names_the_authorities_that_it_accepts(
    trusting: Installation, version: ssl.TLSVersion, asked: str
) -> None:
    message = certificate_request(trusting, "named", asked, version)
    wanted = {each.x509.subject.public_bytes() for each in (ROOT, trusting.pki["partner-ca"])}
    assert set(authorities_in(message, version)) == wanted


def test_names_that_are_too_long_together_are_not_told_at_all() -> None:
    from gateway.relay import openssl

    few = (ROOT.certificate, SUB.certificate)
    many = tuple(forge(f"{number:060}", authority=True).certificate for number in range(400))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert openssl.problem() == ""
    assert openssl.name_authorities(context, few)
    assert not openssl.too_many(few)
    assert openssl.too_many(many)
    assert not openssl.name_authorities(context, many)


def handshake(installation: Installation, port: str, version: ssl.TLSVersion, ciphers: str = "") -> str | None:
    """The cipher that was agreed on; None where there was none."""
    context = installation.context()
    context.minimum_version = context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    try:
        with connected(installation, port, context, "localhost") as sock:
            ask(sock, "localhost")
            return (sock.cipher() or ("",))[0]
    except (ssl.SSLError, ConnectionError):
        return None


def test_the_oldest_version_is_the_port_s(trusting: Installation) -> None:
    old, new = VERSIONS
    assert handshake(trusting, "https", old)
    assert handshake(trusting, "https", new)
    assert handshake(trusting, "modern", old) is None
    assert handshake(trusting, "modern", new)


def test_ciphers_are_the_port_s(trusting: Installation) -> None:
    cbc, old = "ECDHE-ECDSA-AES128-SHA", ssl.TLSVersion.TLSv1_2
    assert handshake(trusting, "https", old, cbc) is None
    assert handshake(trusting, "lenient", old, cbc) == cbc
    for port in ("https", "lenient"):
        assert handshake(trusting, port, old, "AES128-GCM-SHA256") is None, "no forward secrecy"
        assert handshake(trusting, port, old, "ECDHE-ECDSA-AES128-GCM-SHA256")


# --- connections that are open ---


def entry(installation: Installation, section: str, name_: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in installation.topology[section] if each["name"] == name_)
    return found


def unmap(installation: Installation) -> str:
    entry(installation, "certificates", "alice").pop("user")
    return "certificate_unmapped"


def revoke(installation: Installation) -> str:
    lists = list_of(installation.pki["partner-ca"], [installation.pki["alice"].x509.serial_number])
    entry(installation, "truststores", "partners")["crls"] = [crl_pem(lists)]
    return "certificate_revoked"


def await_a_list(installation: Installation) -> str:
    """From where nothing ever comes: it may be that of alice's authority."""
    entry(installation, "truststores", "partners")["crls"] = [{"url": "http://127.0.0.1:1/ca.crl"}]
    return "revocation_unknown"


def distrust(installation: Installation) -> str:
    entry(installation, "truststores", "partners")["certificates"] = "pki/server-ca.pem"
    return "certificate_untrusted"


def shorten(installation: Installation) -> str:
    """Only what the truststore's authorities issue themselves: alice's certificate goes on, one below another ends."""
    entry(installation, "truststores", "partners")["max_intermediates"] = 0
    return "certificate_untrusted"


@pytest.mark.parametrize(
    ("change", "who"),
    [(unmap, "alice"), (revoke, "alice"), (await_a_list, "alice"), (distrust, "alice"), (shorten, "below")],
)
def test_a_change_reaches_connections_that_are_open(fresh: Any, change: Any, who: str) -> None:
    """On both paths, and though what came of the very same request is remembered."""
    installation: Installation = fresh()
    with contextlib.ExitStack() as stack:
        open_ones = [
            stack.enter_context(connected(installation, port, installation.context(who), "localhost"))
            for port in ("https", "ext")
        ]
        for sock in open_ones:
            for _ in range(3):
                assert ask(sock, "localhost", "/orders").json["user"] == who
        reason = change(installation)
        installation.apply()
        for sock in open_ones:
            installation.until(
                lambda sock=sock: ask(sock, "localhost", "/orders").status == 403, "the change is in force"
            )
            assert ask(sock, "localhost", "/orders").json["reason"] == reason
