"""How long one decision takes, undisturbed by what was remembered, with few and with many objects configured.

python -m tools.bench.decision
"""

import base64
import statistics
import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from gateway.core.decision import Facts, Outcome, decide
from gateway.core.document import from_document
from identity.core.assertions import Proof
from identity.core.certificates import Certificate, from_der
from tools.bench.minting import mint
from tools.bench.table import TIMES, Row, at_most, rendered

Sizes = tuple[int, int, int, int]  # certificates, rules, users, ACLs
SIZES: tuple[Sizes, ...] = ((100, 100, 100, 100), (100_000, 1_000, 10_000, 1_000))
ROUNDS, CALLS, TURNS = 50, 100, 7


def document(sizes: Sizes, anchor: bytes, mapped: Certificate) -> dict[str, Any]:
    """One port, one service under the last ACL; `mapped` is on file, and the partner of rule 1 is by its CN."""
    certificates, rules, users, acls = sizes
    port = {
        "type": "regular", "host": "127.0.0.1", "number": 1, "keystore": "", "truststore": "partners",
        "server_name": "", "client_auth": "require", "client_truststore": "", "accept_basic": False,
        "authenticate": False, "explain": False, "registration_port": "", "wait": 5.0, "connect": [],
        "connections": {"min": 1, "spare": 1, "max": 4},
        "service_access": {"default": "allow", "allow": [], "deny": []},
        "ip_access": {"default": "allow", "allow": [], "deny": []}, "trusted_proxies": [], "limits": {},
    }  # fmt: skip
    service = {
        "path": "/orders", "methods": [], "backend": "", "builtin": "whoami", "acl": f"acl{acls - 1}",
        "identity_headers": [], "forward_authorization": False, "timeout": 1.0, "trailers": [],
    }  # fmt: skip
    on_file = {f"{n:064x}": {"name": f"c{n}", "user": f"u{n % users}", "logs_in": True, "blocked": False}
               for n in range(certificates - 1)}  # fmt: skip
    return {
        "format": 1, "revision": 1, "node": {"name": "inside", "role": "internal"}, "ports": {"https": port},
        "services": {"orders": service}, "apis": {}, "endpoints": {}, "registrations": {},
        "users": {f"u{n}": {"groups": ["Everybody", f"g{n % 100}"], "enabled": True} for n in range(users)}
        | {"Default": {"groups": ["Everybody", "Anonymous"], "enabled": True}},
        "acls": {f"acl{n}": {"allowed": ["Everybody"], "denied": ["Suspended"]} for n in range(acls)}
        | {"Default": {"allowed": ["Everybody"], "denied": ["Anonymous"]}},
        "certificates": on_file | {mapped.sha256: {"name": "mapped", "user": "u1", "logs_in": True, "blocked": False}},
        "mapping_rules": {
            f"r{n}": {"priority": n % 10, "issuer_spki_sha256": "", "subject": {"CN": [f"partner{n}"]}, "san": "",
                      "user": "u1", "user_from": None} for n in range(rules)
        },
        "truststores": {"partners": {"anchors": [base64.b64encode(anchor).decode()], "crls": [], "hard": True}},
        "keystores": {}, "token": None,
    }  # fmt: skip


def rows() -> list[Row]:
    key = ec.generate_private_key(ec.SECP256R1())
    root = mint("ca", key.public_key(), "ca", key, authority=True)
    certificates = {"on file": "mapped", "by a rule": "partner1"}
    parsed = {how: from_der(mint(name, key.public_key(), "ca", key)) for how, name in certificates.items()}
    snapshots = [from_document(document(sizes, root, parsed["on file"])) for sizes in SIZES]
    found = []
    for how, certificate in parsed.items():
        # In turn, for a machine that others use is slower now and faster then.
        pairs = [[measure(snapshot, certificate) for snapshot in snapshots] for _ in range(TURNS)]
        few, many = (statistics.median(taken) for taken in zip(*pairs, strict=True))
        ratio = statistics.median(late / soon for soon, late in pairs)
        found += [at_most(f"deciding, {SIZES[1][0]:,} certificates, mapped {how}: median", 10, many, "µs"),
                  at_most(f"the same against {SIZES[0][0]} of each ({few:.1f} µs)", 1.25, ratio, TIMES)]  # fmt: skip
    return found


def main() -> None:
    print(rendered(rows()))


def measure(snapshot: Any, certificate: Certificate) -> float:
    """Median microseconds of one decision."""
    facts = Facts(
        snapshot.ports["https"], "192.0.2.7", "GET", "/orders/7?x=1", certificate=certificate, proof=Proof.TLS
    )
    now = time.time()
    assert decide(facts, snapshot, now).outcome is Outcome.EXECUTE
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(CALLS):
            decide(facts, snapshot, now)
        taken.append((time.perf_counter() - began) / CALLS * 1e6)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
