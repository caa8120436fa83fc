"""Opens one private key or PKCS#12 file, in a process of its own that has a second and little memory to do it in.

How long an opening takes is for the file to say, and not all of it can be seen before: a PKCS#12 file may have more
of the kind inside what is encrypted. `identity.core.confined` runs this file, and it imports nothing of ours.
"""

import base64
import json
import math
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

CPU_SECONDS = 0.8
MEMORY = 40 * 1024 * 1024  # bytes besides those that Python with its libraries takes


def confine() -> None:
    """What goes past the limits is ended by the kernel, in the middle of whatever it computes."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    for limit, value in (
        (resource.RLIMIT_AS, size + MEMORY),
        # Whole seconds alone can be said here: should the timer below not be heard. What it took to load the libraries,
        # seconds on a slow machine, is counted, and is no fault of the file's.
        (resource.RLIMIT_CPU, math.ceil(time.process_time()) + 2),
        (resource.RLIMIT_CORE, 0),  # no dump that would show a key
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)


def open_key(data: bytes, password: bytes | None) -> dict[str, Any]:
    pem = b"-----BEGIN" in data
    load = serialization.load_pem_private_key if pem else serialization.load_der_private_key
    try:
        # Whether the numbers of an RSA key are primes takes seconds to tell; that it works is tried below.
        key = load(data, password, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        return {"problem": "needs a password" if password is None else "needs no password"}
    except ValueError:
        return {"problem": "wrong password" if password is not None else "unreadable"}
    return {"key": _checked(key), "certificates": []}


def open_pkcs12(data: bytes, password: bytes | None) -> dict[str, Any]:
    try:
        found = pkcs12.load_pkcs12(data, password)
    except ValueError:
        return {"problem": "wrong password" if password else "needs a password"}
    certificates = [each.certificate for each in (found.cert, *found.additional_certs) if each is not None]
    return {
        "key": _checked(found.key) if found.key is not None else None,
        "certificates": [_text(each.public_bytes(serialization.Encoding.DER)) for each in certificates],
    }


def _checked(key: Any) -> str:
    """The key in PKCS#8, once it has signed what its public half verifies. Raises ValueError where it does not."""
    how: tuple[Any, ...]
    match key:
        case rsa.RSAPrivateKey():
            how = padding.PKCS1v15(), hashes.SHA256()
        case ec.EllipticCurvePrivateKey():
            how = (ec.ECDSA(hashes.SHA256()),)
        case ed25519.Ed25519PrivateKey() | ed448.Ed448PrivateKey():
            how = ()
        case _:
            raise LookupError
    try:
        key.public_key().verify(key.sign(b"postern", *how), b"postern", *how)
    except InvalidSignature as error:
        raise ValueError("the key does not work") from error
    plain = serialization.NoEncryption()
    return _text(key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, plain))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def main() -> None:
    confine()
    asked = json.load(sys.stdin)
    password = None if asked["password"] is None else base64.b64decode(asked["password"])
    opening = open_pkcs12 if asked["what"] == "pkcs12" else open_key
    try:
        answer = opening(base64.b64decode(asked["data"]), password)
    except LookupError:
        answer = {"problem": "unusable"}
    except Exception:  # the libraries raise a dozen kinds; what they say may quote the file
        answer = {"problem": "unreadable"}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
