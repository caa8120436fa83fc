"""x509-limbo (C2SP) through `chains.judge`, the function that both nodes decide by.

The cases stay outside of the repository: POSTERN_X509_LIMBO names their file. Without it `tests/conftest.py` says at
the end of the run that they were not run.
"""

import datetime
import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from identity.core import chains
from identity.core.certificates import Certificate
from identity.core.files import certificates_from, crl_from

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs" / "trust.md"
FILE = os.environ.get("POSTERN_X509_LIMBO", "")

# Where we decide otherwise than the suite: each is explained in docs/trust.md.
DEVIATIONS = {
    "rfc5280::aki::cross-signed-root-missing-aki",
    "rfc5280::ski::root-missing-ski",
    "webpki::aki::root-with-aki-missing-keyidentifier",
    "webpki::eku::ee-critical-eku",
    "webpki::v1-cert",
}


def verdict(case: dict[str, Any]) -> str:
    """SUCCESS or FAILURE, as the suite says it."""

    def read(pems: list[str]) -> tuple[Certificate, ...]:
        return tuple(certificate for pem in pems for certificate in certificates_from(pem.encode()))

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser warns of serial numbers that we refuse
            anchors, intermediates = read(case["trusted_certs"]), read(case["untrusted_intermediates"])
            (leaf,) = read([case["peer_certificate"]])
            crls = tuple(chains.load_crl(crl_from(pem.encode()), anchors) for pem in case["crls"])
    except ValueError:
        return "FAILURE"
    depth = case["max_chain_depth"]
    store = chains.Truststore("limbo", anchors, crls, max_intermediates=chains.MAX_DEPTH if depth is None else depth)
    moment = case["validation_time"]
    now = datetime.datetime.fromisoformat(moment) if moment else datetime.datetime.now(datetime.UTC)
    found = chains.judge(leaf, intermediates, store, now.timestamp())
    return "SUCCESS" if found.reason is None else "FAILURE"


if FILE:
    CASES: list[dict[str, Any]] = json.loads((ROOT / FILE).read_text())["testcases"]

    @pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in CASES])
    def test_as_the_suite_expects_or_as_we_say(case: dict[str, Any]) -> None:
        agrees = verdict(case) == case["expected_result"]
        assert agrees == (case["id"] not in DEVIATIONS), case["description"]

    def test_every_deviation_is_still_one() -> None:
        assert {case["id"] for case in CASES} >= DEVIATIONS


def test_every_deviation_is_explained() -> None:
    lines = DOCUMENT.read_text().splitlines()
    told = {line.split("|")[1].strip().strip("`") for line in lines if line.startswith("| `") and "::" in line}
    assert told == DEVIATIONS
