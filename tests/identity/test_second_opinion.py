"""Our judgement beside that of `cryptography`'s verifier, over chains that both can judge."""

import time
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError
from hypothesis import given, settings
from hypothesis import strategies as st

from identity.core import chains
from tests.identity.forging import forge, usage
from tests.minting import KEYS, Minted

HOSTS = ["a.example", "b.a.example", "example", "other.test"]
subtrees = st.none() | st.lists(st.sampled_from(HOSTS), min_size=1, max_size=2, unique=True)
authorities = st.fixed_dictionaries(
    {
        "path_length": st.sampled_from([None, None, 0, 1, 2]),
        "permitted": subtrees,
        "excluded": subtrees,
        "signs": st.sampled_from([None, True, True, True, False]),
        "authority": st.sampled_from([True, True, True, False]),
        "days": st.sampled_from([(-1, 30)] * 5 + [(-9, -1)]),
        "impostor": st.sampled_from([False] * 6 + [True]),
    }
)


@cache
def key(number: int) -> Any:
    return KEYS["ec"]()


def made(number: int, issuer: Minted | None, shape: dict[str, Any]) -> Minted:
    extensions: list[tuple[x509.ExtensionType, bool]] = []
    if shape["permitted"] or shape["excluded"]:
        lists = ([x509.DNSName(host) for host in shape[kind] or ()] or None for kind in ("permitted", "excluded"))
        extensions.append((x509.NameConstraints(*lists), True))
    if shape["signs"] is not None:
        extensions.append((usage(digital_signature=True, key_cert_sign=shape["signs"]), True))
    basic = x509.BasicConstraints(shape["authority"], shape["path_length"] if shape["authority"] else None), True
    return forge(f"CA {number}", issuer, basic=basic, extensions=extensions, key=key(number), days=shape["days"])


def theirs(leaf: Minted, above: list[Minted], root: Minted, now: float) -> bool:
    def signs(policy: object, certificate: object, extension: x509.KeyUsage | None) -> None:
        if extension is not None and not extension.key_cert_sign:
            raise ValueError("signs no certificates")

    may_issue = (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, signs)
    )
    verifier = (
        PolicyBuilder()
        .store(Store([root.x509]))
        .time(datetime.fromtimestamp(now, UTC).replace(tzinfo=None))
        .extension_policies(ca_policy=may_issue, ee_policy=ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    try:
        verifier.verify(leaf.x509, [link.x509 for link in above])
    except VerificationError:
        return False
    return True


@settings(max_examples=300)
@given(
    st.lists(authorities, min_size=1, max_size=4),
    st.lists(st.sampled_from([*HOSTS, "*.a.example", "*.example"]), min_size=1, max_size=2, unique=True),
)
def test_nothing_is_trusted_that_the_other_refuses(shapes: list[dict[str, Any]], hosts: list[str]) -> None:
    path: list[Minted] = []
    for number, shape in enumerate(shapes):
        issuer = path[-1] if path else None
        if issuer is not None and shape["impostor"]:  # of the same name, with another key
            issuer = Minted(issuer.x509, key(99), issuer.above)
        path.append(made(number, issuer, shape))
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
    leaf = forge("client", path[-1], extensions=[(names, False)], key=key(100))
    root, *above = path
    now = time.time()
    store = chains.Truststore("store", (root.certificate,))
    ours = chains.judge(leaf.certificate, tuple(link.certificate for link in above), store, now)
    assert (ours.reason is None) == theirs(leaf, above, root, now), ours.words
