"""Certificates and lists that no sane authority makes: any extension, any shape, signed all the same."""

import datetime
from collections.abc import Callable, Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type

from identity.core import der
from tests.minting import KEYS, Minted

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
NOT_CRITICAL = False
KEYS_BESIDES = {
    "ed448": ed448.Ed448PrivateKey.generate,
    "p192": lambda: ec.generate_private_key(ec.SECP192R1()),
    "brainpool": lambda: ec.generate_private_key(ec.BrainpoolP256R1()),
    "dsa": lambda: dsa.generate_private_key(2048),
    "rsa2047": lambda: rsa.generate_private_key(65537, 2047),
}
Extension = tuple[x509.ExtensionType, bool]


def name(*values: str | tuple[str, Any] | tuple[str, Any, Any]) -> x509.Name:
    """`name("alice")`, `name(("O", "Acme"), ("CN", "alice", _ASN1Type.BMPString))`."""
    from identity.core.names import ATTRIBUTE_KINDS

    attributes = []
    for value in values:
        kind, text, *encoding = ("CN", value) if isinstance(value, str) else value
        attributes.append(x509.NameAttribute(ATTRIBUTE_KINDS[kind], text, *encoding, _validate=False))
    return x509.Name(attributes)


def forge(
    subject: x509.Name | str,
    issuer: Minted | None = None,
    *,
    authority: bool = False,
    extensions: Sequence[Extension] = (),
    basic: Extension | None = None,
    key: str | Any = "ec",
    serial: int | None = None,
    hash_: Any = None,
    days: tuple[float, float] = (-1, 30),
    issuer_name: x509.Name | None = None,
) -> Minted:
    """Nothing is added that is not asked for, but for an authority's basic constraints."""
    own = (KEYS | KEYS_BESIDES)[key]() if isinstance(key, str) else key
    subject = name(subject) if isinstance(subject, str) else subject
    signer = issuer.key if issuer else own
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name or (issuer.x509.subject if issuer else subject))
        .public_key(own.public_key())
        .serial_number(serial if serial is not None else x509.random_serial_number())
        .not_valid_before(NOW + datetime.timedelta(days=days[0]))
        .not_valid_after(NOW + datetime.timedelta(days=days[1]))
    )
    if authority and basic is None:
        basic = x509.BasicConstraints(True, None), True
    for extension, critical in (*([basic] if basic else []), *extensions):
        builder = builder.add_extension(extension, critical)
    edwards = isinstance(signer, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    above = () if issuer is None else ((issuer,) if issuer.above or not _is_root(issuer) else ()) + issuer.above
    return Minted(builder.sign(signer, None if edwards else hash_ or hashes.SHA256()), own, above)


def _is_root(minted: Minted) -> bool:
    return minted.x509.issuer == minted.x509.subject


def usage(**bits: bool) -> x509.KeyUsage:
    """Key usage with these bits alone."""
    every = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]  # fmt: skip
    return x509.KeyUsage(**{bit: bits.get(bit, False) for bit in every})


def tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


def operated(
    minted: Minted,
    issuer: Minted,
    operate: Callable[[list[bytes]], list[bytes]],
) -> bytes:
    """DER with the parts of what is signed changed by `operate`, and signed again."""
    certificate = der.read(minted.der)[0]
    signed, outer, _ = der.read(certificate.content)
    tbs = tlv(der.SEQUENCE, b"".join(operate([value.whole for value in der.read(signed.content)])))
    if isinstance(issuer.key, rsa.RSAPrivateKey):
        signature = issuer.key.sign(tbs, padding.PKCS1v15(), hashes.SHA256())
    else:
        signature = issuer.key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    return tlv(der.SEQUENCE, tbs + outer.whole + tlv(0x03, b"\x00" + signature))


ECDSA_WITH_SHA1 = bytes.fromhex("300906072a8648ce3d0401")


def with_sha1(der_of_something: bytes, issuer: Minted) -> bytes:
    """A certificate or a revocation list signed anew as nobody should any more, with an EC key."""
    signed, outer, _ = der.read(der.read(der_of_something)[0].content)
    tbs = tlv(der.SEQUENCE, signed.content.replace(outer.whole, ECDSA_WITH_SHA1, 1))
    signature = issuer.key.sign(tbs, ec.ECDSA(hashes.SHA1()))
    return tlv(der.SEQUENCE, tbs + ECDSA_WITH_SHA1 + tlv(0x03, b"\x00" + signature))


def list_of(
    issuer: Minted,
    serials: Sequence[int] = (),
    *,
    extensions: Sequence[Extension] = (),
    entry_extensions: Sequence[Extension] = (),
    days: tuple[float, float] = (-1, 7),
) -> bytes:
    """A revocation list in DER."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.x509.subject)
        .last_update(NOW + datetime.timedelta(days=days[0]))
        .next_update(NOW + datetime.timedelta(days=days[1]))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW)
        for extension, critical in entry_extensions:
            entry = entry.add_extension(extension, critical)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


__all__ = ["_ASN1Type", "forge", "list_of", "name", "operated", "tlv", "usage", "with_sha1"]
