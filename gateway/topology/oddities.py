"""What is lawful but odd: told as warnings when a file is applied, and refused by nothing."""

from collections.abc import Iterator
from datetime import datetime

from django.utils import timezone

from gateway.core.addresses import split_host_port
from gateway.models import ClientAuth, Port, PortType, Registration
from gateway.relay.openssl import too_many
from identity.core.profile import fault_of_anchor
from identity.models import ACL, Certificate, Keystore, RevocationList, TrustedCertificate

_LOOPBACK = ("127.", "::1", "localhost")


def oddities() -> list[str]:
    """One line each, over all that is stored."""
    now = timezone.now()
    return [*_registrations(), *_ports(), *crowded_requests(), *_acls(), *_truststores(), *_ends(now)]


def _registrations() -> Iterator[str]:
    rows = Registration.objects.prefetch_related("may_assert_truststores", "may_assert_groups")
    for row in rows:
        if not row.limits_assertions:
            yield f"registrations[{row}]: without may_assert the edge may speak for every trusted certificate"
        elif not (row.may_assert_truststores.all() or row.may_assert_groups.all()):
            yield f"registrations[{row}].may_assert: names neither truststores nor groups, and so limits nothing"


def _ports() -> Iterator[str]:
    rows = Port.objects.filter(enabled=True).select_related("registration_port").prefetch_related("connect")
    for row in rows:
        if row.type == PortType.EXTERNAL and row.registration_port is not None:
            yield from _channel(row, row.registration_port)
        if row.type == PortType.INTERNAL and not row.connect.all():
            yield f"ports[{row}].connect: is missing, and so the port dials nowhere"
        if row.bind and not row.tls_keystore_id and row.accepts_basic and not _is_loopback(row.bind):
            yield f"ports[{row}]: takes passwords without TLS; give it a keystore, or accept_basic: false"


def crowded_requests() -> Iterator[str]:
    """Ports that ask for certificates and cannot say whose."""
    asking = Port.objects.filter(enabled=True, client_auth__in=[ClientAuth.REQUEST, ClientAuth.REQUIRE])
    for row in asking.exclude(type=PortType.INTERNAL).exclude(tls_truststore=None).select_related("tls_truststore"):
        store = row.tls_truststore
        if store is not None and too_many(anchor.certificate for anchor in store.certificates.all()):
            yield (
                f"ports[{row}].tls.truststore: the names of {store}'s authorities are too long to be told to clients; "
                "the port asks for a certificate without naming any"
            )


def _channel(port: Port, registration_port: Port) -> Iterator[str]:
    """What an external port lets in must find a way out at the other end."""
    if not Registration.objects.filter(port=registration_port, enabled=True).exists():
        yield f"ports[{port}].registration_port: nobody may register at {registration_port} yet"
    inner = Port.objects.filter(connect__registration__port=registration_port, enabled=True).distinct()
    for other in inner:
        if (port.client_auth == ClientAuth.PASSWORD) != (other.client_auth == ClientAuth.PASSWORD):
            yield (
                f"ports[{port}].client_auth: is {port.client_auth}, and {other} behind it has {other.client_auth}; "
                "callers' certificates do not get through"
            )
        elif port.client_auth != ClientAuth.REQUIRE and other.client_auth == ClientAuth.REQUIRE:
            yield (
                f"ports[{port}].client_auth: is {port.client_auth}, and {other} behind it has require; "
                "callers without a certificate are refused there"
            )


def _is_loopback(bind: str) -> bool:
    return split_host_port(bind)[0].startswith(_LOOPBACK)


def _acls() -> Iterator[str]:
    for name in ACL.objects.filter(allowed=None).order_by("name").values_list("name", flat=True):
        yield f"acls[{name}]: allows nobody"


def _truststores() -> Iterator[str]:
    for row in TrustedCertificate.objects.select_related("truststore"):
        certificate = row.certificate
        if not certificate.is_authority and not certificate.self_issued:
            yield (
                f"truststores[{row.truststore}].certificates: {certificate.title} is no authority; it is believed "
                "itself, and nothing that it issues"
            )
        if words := fault_of_anchor(certificate):
            yield f"truststores[{row.truststore}].certificates: {words}"
    for crl in RevocationList.objects.filter(of_other=True).select_related("truststore"):
        yield (
            f"truststores[{crl.truststore}].crls: {crl.issuer} is no authority of it; its list counts for what "
            "authorities of that name that callers send have issued"
        )


def _ends(now: datetime) -> Iterator[str]:
    """Whatever has an end, and it is over."""
    over = {"not_after__lt": now}
    for mapped in Certificate.objects.logging_in().filter(**over):
        yield f"certificates[{mapped}]: expired on {mapped.not_after:%Y-%m-%d}"
    for keystore in Keystore.objects.filter(**over):
        yield f"keystores[{keystore}].certificate: expired on {keystore.not_after:%Y-%m-%d}"
    for registration in Registration.objects.filter(enabled=True, **over):
        yield f"registrations[{registration}].certificate: expired on {registration.not_after:%Y-%m-%d}"
    for anchor in TrustedCertificate.objects.filter(**over).select_related("truststore"):
        yield f"truststores[{anchor.truststore}].certificates: {anchor} expired on {anchor.not_after:%Y-%m-%d}"
    for crl in RevocationList.objects.filter(source=None, next_update__lt=now).select_related("truststore"):
        yield f"truststores[{crl.truststore}].crls: the list of {crl.issuer} ran out on {crl.next_update:%Y-%m-%d}"
