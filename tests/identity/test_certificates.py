"""What is read of one certificate."""

import pytest

from identity.core import certificates
from identity.core.certificates import CertificateError
from tests.factories import partner_ca
from tests.minting import authority, mint

ALICE = mint("CN=alice,O=Partner One", partner_ca(), san=["dns:Alice.partner.example", "email:a@b.example"])


def test_what_is_read() -> None:
    certificate = ALICE.certificate
    assert certificate.subject.text == "CN=alice, O=Partner One"
    assert certificate.alternative_names == ("dns:alice.partner.example", "email:a@b.example")
    assert certificate.purposes == ("client authentication",)
    assert certificate.key == "EC P-256"
    assert not certificate.is_authority


@pytest.mark.parametrize("data", [b"", b"\x30", ALICE.der + b"\0", ALICE.der[:-1], b"\x30" * 70_000])
def test_what_is_not_exactly_one_is_none(data: bytes) -> None:
    with pytest.raises(CertificateError):
        certificates.from_der(data)


def test_an_issuer_is_known_by_its_signature_and_not_by_its_name() -> None:
    namesake = authority("CN=Partner CA,O=Acme")
    assert certificates.issued(partner_ca().certificate, ALICE.certificate)
    assert not certificates.issued(namesake.certificate, ALICE.certificate)
    assert not certificates.issued(ALICE.certificate, ALICE.certificate)
