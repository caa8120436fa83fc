"""Files that people send → certificates and keys: PEM, DER, PKCS#7, PKCS#12; or in words what else it is.

A file is bounded in bytes, certificates, nesting and in what opening it may cost, for whoever made it may mean harm.
What a certificate is, is `certificates`; whether it is believed, `chains`. Never quotes a file that may hold a key.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from identity.core import confined, formats
from identity.core.certificates import Certificate, CertificateError, from_der, issued
from identity.core.confined import OpeningError
from identity.core.formats import FormatError

MAX_FILE = 1024 * 1024  # bytes of one upload; a partner's certificate has two thousand
MAX_CERTIFICATES = 1000  # in one file
MAX_CHAIN = 10  # certificates that are put in order; a chain has three
MAX_CRL = 16 * 1024 * 1024  # bytes; a large authority's list has a few million

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey

_CERTIFICATE_LABELS = {"CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"}
_PKCS7_LABELS = {"PKCS7", "PKCS #7 SIGNED DATA", "CMS"}
_KEY_LABELS = {"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"}
_NO_KEY_HERE = (
    "holds a private key, which does not belong here: send the certificate alone. "
    "Consider that key exposed if it was sent to you."
)
_A_REQUEST = "asks for a certificate; send the one that the authority made of it."
_A_CRL = "A revocation list belongs into a truststore."
_A_PUBLIC_KEY = "A public key alone names nobody; send the certificate."
# What people send in place of a certificate, and what would be right.
_OTHER_LABELS = {
    "CERTIFICATE REQUEST": f"It {_A_REQUEST}",
    "NEW CERTIFICATE REQUEST": f"It {_A_REQUEST}",
    "X509 CRL": _A_CRL,
    "PUBLIC KEY": _A_PUBLIC_KEY,
}
_TO_PKCS12 = "keytool -importkeystore -srckeystore FILE{0} -destkeystore FILE.p12 -deststoretype PKCS12"
_JAVA = {
    b"\xfe\xed\xfe\xed": ("JKS", _TO_PKCS12.format("")),
    b"\xce\xce\xce\xce": ("JCEKS", _TO_PKCS12.format(" -srcstoretype JCEKS")),
}
_COSTLY = (
    "Opening the file takes more than a second of computing, which is not spent on it. Export it again, with less."
)
_UNUSABLE = "TLS cannot use this kind of key; use RSA, EC or Ed25519."


@dataclass(frozen=True, slots=True)
class Contents:
    """What one file holds.

    Attributes:
        kind: `PEM`, `DER`, `PKCS#7` or `PKCS#12`.
        certificates: in the file's order; of a PKCS#12 file first the one of its key.
        key: where the file has one and it was asked for.
        left_out: whether the file has a key besides that was not asked for, and is kept nowhere.
    """

    kind: str
    certificates: tuple[Certificate, ...]
    key: PrivateKey | None = field(default=None, repr=False)
    left_out: bool = False


# --- what callers ask for ---


def read(data: bytes, password: str | None = None, *, keys: bool = False) -> Contents:
    """All that a file holds. `keys`: whether a private key belongs into it.

    Raises:
        CertificateError: empty, too large, cut short or continued, of another kind, or what it holds cannot be read;
            the message says which and what would be right.
    """
    if not data.strip():
        raise CertificateError("The file is empty; a certificate in PEM or DER is needed.")
    if len(data) > MAX_FILE:
        raise CertificateError(
            f"The file has {len(data):,} bytes; at most {MAX_FILE:,} are accepted. Is it a certificate?"
        )
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CertificateError("The text is in UTF-16; save it as plain text (ASCII or UTF-8).")
    data = data.removeprefix(b"\xef\xbb\xbf")  # what some editors put before UTF-8
    found = _from_pem(data, password, keys) if b"-----BEGIN " in data else _from_binary(data, password, keys)
    if len(found.certificates) > MAX_CERTIFICATES:
        raise _too_many(len(found.certificates))
    return found


def certificates_from(data: bytes, password: str | None = None) -> tuple[Certificate, ...]:
    """Every certificate of a file, in its order; at least one. A key in a PKCS#12 file is not kept.

    Raises:
        CertificateError: as `read`; or there is none in it.
    """
    return needed(read(data, password)).certificates


def chain_from(data: bytes, password: str | None = None) -> tuple[Certificate, ...]:
    """The certificate of a file and then its issuers, nearest first, in whatever order they are in the file.

    Raises:
        CertificateError: as `certificates_from`, and where they are no chain.
    """
    return in_order(certificates_from(data, password))


def in_order(certificates: Sequence[Certificate]) -> tuple[Certificate, ...]:
    """The certificates of one chain, leaf first; each once. Raises CertificateError where they are none, or several."""
    chain = list(dict.fromkeys(certificates))
    if len(chain) == 1:
        return tuple(chain)
    if len(chain) > MAX_CHAIN:
        raise CertificateError(f"The file has {len(chain)} certificates; a chain of at most {MAX_CHAIN} is accepted.")
    # Each below the one that issued it; who issued none of the others is the leaf.
    leaves = [each for each in chain if not any(issued(each, other) for other in chain if other is not each)]
    if len(leaves) == 1:
        ordered = [leaves[0]]
        while above := [each for each in chain if each not in ordered and issued(each, ordered[-1])]:
            if len(above) > 1:
                break
            ordered.append(above[0])
        if len(ordered) == len(chain):
            return tuple(ordered)
    stray = next((each for each in chain[1:] if not any(issued(each, other) for other in chain)), chain[1])
    raise CertificateError(
        f"The file has {len(chain)} certificates that are no chain: {stray.title} did not issue "
        f"{chain[0].title}. Send one certificate, or a leaf with its issuers."
    )


def pair_of(found: Sequence[tuple[str, Contents]]) -> tuple[tuple[Certificate, ...], PrivateKey]:
    """A chain, leaf first, and its key: from two files, or both from one (PKCS#12, or PEM with all of it).

    Args:
        found: which field each part came from, and what was read of it (`read_part`).
    Raises:
        FieldError: something is missing, or there are two keys.
    """
    keys = [(name, contents.key) for name, contents in found if contents.key is not None]
    if len(keys) > 1:
        raise FieldError("private_key", "There is a private key in both files; send one of them.")
    if not keys:
        raise FieldError("private_key", "There is no private key in what was sent: certificate and key come together.")
    given = [each for _, contents in found for each in contents.certificates]
    if not given:
        raise FieldError("certificate", "There is no certificate in what was sent: certificate and key come together.")
    try:
        return in_order(given), keys[0][1]
    except CertificateError as error:
        raise FieldError("certificate", str(error)) from error


class FieldError(CertificateError):
    """One of several files is wrong: `field` says which, `certificate` or `private_key`."""

    def __init__(self, field: str, words: str) -> None:
        super().__init__(words)
        self.field = field


def read_part(name: str, data: bytes, password: str | None) -> Contents:
    """What one of the two files of a pair holds: `name` is `certificate` or `private_key`. Raises FieldError."""
    try:
        if name == "private_key" and not _has_several(data):
            return Contents("key", (), key_from(data, password))
        found = read(data, password, keys=True)
        if name == "certificate" and not found.certificates and found.kind != "PKCS#12":
            raise CertificateError("The file holds a private key and no certificate; the certificate is needed here.")
        return found
    except CertificateError as error:
        raise FieldError(name, str(error)) from error


def _has_several(data: bytes) -> bool:
    """Whether it is a kind of file that has certificates beside its key."""
    if b"-----BEGIN " in data:
        return b"-----BEGIN CERTIFICATE-----" in data and b"PRIVATE KEY-----" in data
    return formats.is_pkcs12(data)


def key_from(data: bytes, password: str | None = None) -> PrivateKey:
    """The private key of a PEM or DER file, or of a PKCS#12 file.

    Raises:
        CertificateError: no key, a wrong or missing pass phrase, or a kind that TLS cannot use. Never quotes the file.
    """
    if len(data) > MAX_FILE:
        raise CertificateError(f"The key file has {len(data):,} bytes; at most {MAX_FILE:,} are accepted.")
    _refuse_java(data)
    if b"-----BEGIN " not in data:
        if formats.is_pkcs12(data):
            key = _from_pkcs12(data, password, keys=True).key
            if key is None:
                raise CertificateError("The PKCS#12 file has no private key; it is needed here.")
            return key
        return _open_key(data, password)
    blocks = list(_pem_blocks(data))
    keys = [block for block in blocks if block.label in _KEY_LABELS]
    if len(keys) > 1:
        raise CertificateError("The file has several private keys; send the one that belongs to the certificate.")
    if keys:
        return _open_key_block(keys[0], password)
    if any(block.label in _CERTIFICATE_LABELS for block in blocks):
        raise CertificateError("This is a certificate; the private key is needed here.")
    raise CertificateError(_NO_PRIVATE_KEY)


def crl_from(data: bytes) -> bytes:
    """The DER of the one revocation list in a PEM or DER file. Raises CertificateError."""
    if len(data) > MAX_CRL:
        raise CertificateError(f"The revocation list has {len(data):,} bytes; at most {MAX_CRL:,} are accepted.")
    try:
        load = x509.load_pem_x509_crl if b"-----BEGIN" in data else x509.load_der_x509_crl
        return load(data).public_bytes(serialization.Encoding.DER)
    except Exception as error:
        raise CertificateError("This is not a revocation list (CRL) in DER or PEM.") from error


# --- PEM ---


@dataclass(frozen=True, slots=True)
class _Block:
    """`text`: the whole block; `body`: what stands between its lines; `end`: where it ends in the file."""

    label: str
    text: bytes = field(repr=False)
    body: bytes = field(repr=False)
    start: int
    end: int

    def der(self) -> bytes:
        """Raises ValueError where the body is not base64."""
        return base64.b64decode(b"".join(self.body.split()), validate=True)


_DAMAGED = "A PEM block is damaged: its BEGIN and END lines do not match or its text is not base64."
_BEGIN, _END, _DASHES = b"-----BEGIN ", b"-----END ", b"-----"
_LONGEST_LABEL = 64  # characters


def _pem_blocks(data: bytes) -> Iterator[_Block]:
    """Each block, in one pass. Raises CertificateError at the first that has no end."""
    at = 0
    while (start := data.find(_BEGIN, at)) >= 0:
        begin = start + len(_BEGIN)
        close = data.find(_DASHES, begin, begin + _LONGEST_LABEL + len(_DASHES))
        if close < 0:
            raise CertificateError(_DAMAGED)
        label = data[begin:close]
        last = _END + label + _DASHES
        body_at = close + len(_DASHES)
        stop = data.find(last, body_at)
        if stop < 0 or data.find(_BEGIN, body_at, stop) >= 0:
            raise CertificateError(_DAMAGED)
        end = stop + len(last)
        yield _Block(label.decode("ascii", "replace"), data[start:end], data[body_at:stop], start, end)
        at = end


def _from_pem(data: bytes, password: str | None, keys: bool) -> Contents:
    if not keys and b"PRIVATE KEY-----" in data:
        raise CertificateError(f"The file {_NO_KEY_HERE}")
    blocks = list(_pem_blocks(data))
    _check_around(data, blocks)
    if len(blocks) > MAX_CERTIFICATES:
        raise _too_many(len(blocks))
    found: list[Certificate] = []
    key: PrivateKey | None = None
    for number, block in enumerate(blocks, 1):
        if block.label in _KEY_LABELS:
            if key is not None:
                raise CertificateError("The file has several private keys; send the one of the certificate.")
            key = _open_key_block(block, password)
        elif not (keys and block.label == "EC PARAMETERS"):
            found += _from_block(block, number if len(blocks) > 1 else 0)
    return Contents("PEM", tuple(found), key)


def _check_around(data: bytes, blocks: list[_Block]) -> None:
    """What `openssl` may print around certificates is allowed before them; after the last nothing is."""
    around = [data[a:b] for a, b in zip([0, *(b.end for b in blocks)], [*(b.start for b in blocks), None], strict=True)]
    if any(_END in text for text in around):
        raise CertificateError(_DAMAGED)
    if any(byte >= 0x80 or (byte < 0x20 and byte not in b"\t\r\n") for text in around[:-1] for byte in text):
        raise CertificateError("The file has bytes around its PEM blocks that are not text; remove them.")
    if around[-1].strip():
        raise CertificateError("Something follows the last certificate; remove what stands after its END line.")


def _from_block(block: _Block, number: int) -> Iterable[Certificate]:
    """`number`: which block of several it is; 0 of one alone."""
    if block.label not in _CERTIFICATE_LABELS | _PKCS7_LABELS:
        what = _OTHER_LABELS.get(block.label, "Only CERTIFICATE blocks belong here.")
        raise CertificateError(f"Block {number or 1} is a {block.label}. {what}")
    try:
        der = block.der()
    except ValueError as error:
        raise CertificateError(f"Block {number or 1} is damaged: its text is not base64.") from error
    try:
        # Windows labels PKCS#7 a CERTIFICATE.
        return _from_pkcs7(der) if formats.is_pkcs7(der) else (from_der(der),)
    except CertificateError as error:
        raise CertificateError(f"Block {number}: {error}" if number else str(error)) from error


# --- DER and what else is no text ---


def _from_binary(data: bytes, password: str | None, keys: bool) -> Contents:
    _refuse_java(data)
    if data[:1] != b"\x30":
        raise CertificateError(
            "This is not a certificate: neither PEM (text with BEGIN CERTIFICATE) nor DER, PKCS#7 or PKCS#12."
        )
    if formats.is_pkcs12(data):
        return _from_pkcs12(data, password, keys)
    _check_length(data)
    if formats.is_pkcs7(data):
        return Contents("PKCS#7", _from_pkcs7(data))
    if formats.is_key(data):
        raise CertificateError(f"The file {_NO_KEY_HERE}")
    try:
        return Contents("DER", (from_der(data),))
    except CertificateError as error:
        raise CertificateError(_what_else(data) or str(error)) from error


def _refuse_java(data: bytes) -> None:
    if java := _JAVA.get(data[:4]):
        raise CertificateError(f"This is a Java keystore ({java[0]}). Convert it to PKCS#12 first: {java[1]}")


def _check_length(data: bytes) -> None:
    """Raises CertificateError where the file ends before its first value does, or after it."""
    if len(data) > 1 and data[1] == 0x80:  # ends by a mark; only PKCS#7 and PKCS#12 may
        return
    header = formats.header(data)
    length = int.from_bytes(data[2:header]) if header > 2 else data[1] if len(data) > 1 else 0
    if header > 6 or length > MAX_FILE or len(data) < header + length:
        raise CertificateError("The file ends in the middle: part of it was lost on the way. Send it again.")
    if len(data) > header + length and not formats.is_pkcs7(data):
        try:
            from_der(data[: header + length])
        except CertificateError:
            raise CertificateError("This is not a certificate, although it begins like DER.") from None
        raise CertificateError(
            f"{len(data) - header - length} bytes follow the certificate; the file must end where it ends."
        )


def _what_else(data: bytes) -> str:
    """The right word on a file that is no certificate, "" where it is nothing known."""
    for load, words in (
        (x509.load_der_x509_csr, f"This {_A_REQUEST}"),
        (x509.load_der_x509_crl, f"This is a revocation list. {_A_CRL}"),
        (serialization.load_der_public_key, _A_PUBLIC_KEY),
    ):
        try:
            load(data)
        except Exception:  # noqa: S112 - the parsers raise a dozen kinds
            continue
        return words
    return ""


def _from_pkcs7(data: bytes) -> tuple[Certificate, ...]:
    """Certificates in the envelope of a signature, mostly without one."""
    try:
        found, size = formats.in_signed_data(data)
    except FormatError as error:
        raise CertificateError(f"This PKCS#7 file {error}") from error
    if size != len(data):
        raise CertificateError(f"{len(data) - size} bytes follow the PKCS#7 file; it must end where it ends.")
    if not found:
        raise CertificateError("This PKCS#7 file has no certificate in it.")
    if len(found) > MAX_CERTIFICATES:
        raise _too_many(len(found))
    return tuple(from_der(bytes(each)) for each in found)


# --- PKCS#12 and private keys: opened in a process of its own ---

_NO_PRIVATE_KEY = "This is not a private key; PEM (PKCS#8 or traditional), DER or PKCS#12 is needed."


def _from_pkcs12(data: bytes, password: str | None, keys: bool) -> Contents:
    opened = _open("pkcs12", data, password, _PKCS12_PROBLEMS)
    if len(opened.certificates) > MAX_CERTIFICATES:
        raise _too_many(len(opened.certificates))
    key = _loaded(opened.key) if keys and opened.key is not None else None
    certificates = tuple(from_der(each) for each in opened.certificates)
    return Contents("PKCS#12", certificates, key, left_out=opened.key is not None and not keys)


def _open_key_block(block: _Block, password: str | None) -> PrivateKey:
    if b":" in block.body:  # headers of the traditional form, whose derivation is one round
        return _open_key(block.text, password)
    try:
        return _open_key(block.der(), password)
    except binascii.Error as error:
        raise CertificateError(_NO_PRIVATE_KEY) from error


def _open_key(data: bytes, password: str | None) -> PrivateKey:
    opened = _open("key", data, password, _KEY_PROBLEMS)
    if opened.key is None:
        raise CertificateError(_NO_PRIVATE_KEY)
    return _loaded(opened.key)


_PKCS12_PROBLEMS = {
    "needs a password": "This is a PKCS#12 file, and its password is needed to open it (or it is damaged).",
    "wrong password": "The password does not open this PKCS#12 file, or the file is damaged.",
    "unreadable": "This PKCS#12 file cannot be read: what is in it is damaged.",
    "unusable": _UNUSABLE,
    "too costly": _COSTLY,
}
_KEY_PROBLEMS = {
    "needs a password": "The key is encrypted; give its pass phrase.",
    "needs no password": "The key is not encrypted; leave the pass phrase empty.",
    "wrong password": "The pass phrase does not open this key.",
    "unreadable": _NO_PRIVATE_KEY,
    "unusable": _UNUSABLE,
    "too costly": _COSTLY,
}


def _open(what: confined.What, data: bytes, password: str | None, problems: dict[str, str]) -> confined.Opened:
    try:
        return confined.open_file(what, data, password or None)
    except OpeningError as error:
        raise CertificateError(problems.get(error.problem, error.problem)) from error


def _loaded(der: bytes) -> PrivateKey:
    """A key that `opener.py` has tried already."""
    key = serialization.load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, PrivateKey)
    return key


def own_key(pem: bytes) -> PrivateKey:
    """A key as we have stored it ourselves (`certificates.key_pem`): trusted, and opened on the spot."""
    key = serialization.load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, PrivateKey)
    return key


# --- words and comparisons ---


def needed(contents: Contents) -> Contents:
    """Raises CertificateError where it has no certificate."""
    if not contents.certificates:
        raise CertificateError(
            "The file has no certificate in it." if contents.kind == "PKCS#12"
            else "The file has no certificate; a PEM file has a line BEGIN CERTIFICATE."
        )  # fmt: skip
    return contents


def _too_many(count: int) -> CertificateError:
    return CertificateError(f"The file has {count:,} certificates; at most {MAX_CERTIFICATES:,} are accepted.")
