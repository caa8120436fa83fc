"""What one change costs, with few and with many objects configured: in the feed, and on the node's loop.

python -m tools.bench.changes
"""

import json
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from gateway.core.difference import difference
from gateway.core.document import amended, from_document
from identity.core.certificates import from_der
from tools.bench.decision import SIZES, document
from tools.bench.minting import mint

ROUNDS = 15


def main() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    root = mint("ca", key.public_key(), "ca", key, authority=True)
    mapped = from_der(mint("mapped", key.public_key(), "ca", key))
    print(f"{'certificates, rules, users, ACLs':36}{'changed':14}{'compared':>10}{'bytes':>8}{'on the loop':>13}   ms")
    for sizes in SIZES:
        whole = document(sizes, root, mapped)
        whole["ports"] = {}  # nothing is opened here: it is the values that are measured
        for name, change in changes(mapped.sha256).items():
            report(f"{sizes!s:36}{name:14}", whole, change)
    print(f"\nthis process took {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


def changes(sha256: str) -> dict[str, tuple[str, str, dict[str, Any]]]:
    certificate = {"name": "mapped", "user": "u1", "logs_in": True, "blocked": True}
    rule = {"priority": 1, "issuer_spki_sha256": "", "subject": {"CN": ["other"]}, "san": "", "user": "u1",
            "user_from": None}  # fmt: skip
    return {
        "certificate": ("certificates", sha256, certificate),
        "user": ("users", "u1", {"groups": ["Everybody"], "enabled": False}),
        "rule": ("mapping_rules", "r1", rule),
        "ACL": ("acls", "acl1", {"allowed": [], "denied": []}),
    }


def report(about: str, whole: dict[str, Any], change: tuple[str, str, dict[str, Any]]) -> None:
    section, name, entry = change
    after = whole | {"revision": 2, section: whole[section] | {name: entry}}
    sent = json.dumps(difference(whole, after))
    snapshot = from_document(whole)
    compared = median(lambda: difference(whole, after))
    applied = median(lambda: amended(snapshot, json.loads(sent)))
    print(f"{about}{compared:10.2f}{len(sent):8}{applied:13.2f}")


def median(work: Callable[[], object]) -> float:
    """Milliseconds."""
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
