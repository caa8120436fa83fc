"""DER put together by hand: for files that no honest program writes."""

import os

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.padding import PKCS7

DATA, ENCRYPTED_DATA, SIGNED_DATA = (f"2a864886f70d01070{n}" for n in (1, 6, 2))
PBES2, PBKDF2, SCRYPT = "2a864886f70d01050d", "2a864886f70d01050c", "2b06010401da47040b"
HMAC_SHA256, AES256_CBC = "2a864886f70d0209", "60864801650304012a"
CERT_BAG, KEY_BAG, SHROUDED_KEY_BAG = (f"2a864886f70d010c0a010{n}" for n in (3, 1, 2))


def value(tag: int, *content: bytes) -> bytes:
    body = b"".join(content)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    size = (len(body).bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + len(body).to_bytes(size) + body


def seq(*content: bytes) -> bytes:
    return value(0x30, *content)


def oid(encoded: str) -> bytes:
    return value(0x06, bytes.fromhex(encoded))


def number(what: int) -> bytes:
    return value(0x02, what.to_bytes(what.bit_length() // 8 + 1))


def octets(content: bytes) -> bytes:
    return value(0x04, content)


def tagged(content: bytes, which: int = 0) -> bytes:
    return value(0xA0 | which, content)


def pbes2(rounds: int, salt: bytes, iv: bytes) -> bytes:
    """An algorithm identifier that derives with `rounds` of PBKDF2."""
    kdf = seq(oid(PBKDF2), seq(octets(salt), number(rounds), seq(oid(HMAC_SHA256), value(0x05))))
    return seq(oid(PBES2), seq(kdf, seq(oid(AES256_CBC), octets(iv))))


def scrypt(size: int, block: int, passes: int) -> bytes:
    kdf = seq(oid(SCRYPT), seq(octets(b"saltsalt"), number(size), number(block), number(passes)))
    return seq(oid(PBES2), seq(kdf, seq(oid(AES256_CBC), octets(bytes(16)))))


def encrypted(content: bytes, password: str) -> tuple[bytes, bytes]:
    """Algorithm identifier and ciphertext, with one round of derivation."""
    salt, iv = os.urandom(8), os.urandom(16)
    key = PBKDF2HMAC(hashes.SHA256(), 32, salt, 1).derive(password.encode())
    padder, cipher = PKCS7(128).padder(), Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return pbes2(1, salt, iv), cipher.update(padder.update(content) + padder.finalize()) + cipher.finalize()


def pfx(*safes: bytes, mac: bytes = b"") -> bytes:
    """A PKCS#12 file (RFC 7292, section 4)."""
    return seq(number(3), seq(oid(DATA), tagged(octets(seq(*safes)))), mac)


def plain_safe(*bags: bytes) -> bytes:
    return seq(oid(DATA), tagged(octets(seq(*bags))))


def encrypted_safe(password: str, *bags: bytes) -> bytes:
    algorithm, ciphertext = encrypted(seq(*bags), password)
    inner = seq(oid(DATA), algorithm, value(0x80, ciphertext))
    return seq(oid(ENCRYPTED_DATA), tagged(seq(number(0), inner)))


def shrouded_key(algorithm: bytes) -> bytes:
    """A bag with a key that nobody will ever decrypt; `algorithm` says what trying would cost."""
    return seq(oid(SHROUDED_KEY_BAG), tagged(seq(algorithm, octets(bytes(64)))))
