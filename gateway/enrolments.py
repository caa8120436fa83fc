"""Nodes on machines of their own: bundles, certificates, and taking both away. Each is in the audit log."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hmac import compare_digest

from cryptography import x509
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext

from gateway.audit import record_enrolment
from gateway.core.enrolment import LIFETIME, Bundle, EnrolmentError
from gateway.models import Authority, Enrolment, Node, Port, PortType, Role
from identity.core import authority
from identity.core.authority import Pair
from identity.models import sealing

RENEWALS = 8  # certificates of one node that are known until one of them is used; the last


@dataclass(frozen=True, slots=True)
class Known:
    """What a courier works by: of one node, at one moment."""

    node: str
    role: str
    addresses: tuple[str, ...]
    serials: frozenset[str]
    proof_key: bytes = b""


def authority_row() -> Authority:
    """The installation's authority; made when it is first asked for. The console's certificate is renewed in time."""
    now = timezone.now()
    row = Authority.objects.filter(pk=Authority.ONLY).first()
    if row is None:
        row = Authority(pk=Authority.ONLY)
        made = authority.new_authority(now)
        take(row, made, authority.certify_console(made, now))
        with transaction.atomic():
            # Of several consoles that make one at once, one is heard.
            Authority.objects.bulk_create([row], ignore_conflicts=True)
        row = Authority.objects.get(pk=Authority.ONLY)
    if authority.is_due(row.console.parsed, now):
        made = row.pair
        take(row, made, authority.certify_console(made, now))
        # Where the authority was exchanged meanwhile, the console has a certificate of the new one.
        fresh = {"console_certificate": row.console_certificate, "console_key": row.console_key}
        if not Authority.objects.filter(pk=Authority.ONLY, certificate=row.certificate).update(**fresh):
            row.refresh_from_db()
    return row


def take(row: Authority, own: Pair, console: Pair) -> None:
    """The pairs of an authority and its console, into the row; it is not stored."""
    row.certificate, row.console_certificate = own.certificate, console.certificate
    sealing.seal(row, "key", own.key.encode())
    sealing.seal(row, "console_key", console.key.encode())


def offer(node: Node, actor: str, origin: str | None, *, address: str = "", now: datetime | None = None) -> Bundle:
    """A new bundle for a node; one that was made before is worth nothing from now on.

    `address`: of an edge: where the console reaches its registration port.

    Raises:
        EnrolmentError: the node cannot be reached, or cannot reach the console, as things are configured.
    """
    now = now or timezone.now()
    bundle = Bundle(
        node=node.name, role=node.role, authority=authority_row().believed,
        expires=int(now.timestamp()) + LIFETIME, **_ways(node),
    )  # fmt: skip
    with transaction.atomic():
        row, _ = Enrolment.objects.select_for_update().get_or_create(node=node)
        before = row.as_entry() if row.is_enrolled else None
        row.address = address
        row.bundle_ends = now + timedelta(seconds=LIFETIME)
        row.disowned_at = None
        sealing.seal(row, "proof_key", bundle.key)
        row.save()
        record_enrolment(actor, origin, node.name, before, row.as_entry(), f"bundle for node {node.name}")
    return bundle


def _ways(node: Node) -> dict[str, object]:
    if node.role == Role.EDGE:
        port = node.ports.filter(type=PortType.REGISTRATION, enabled=True).order_by("name").first()
        if port is None:
            raise EnrolmentError(
                gettext(
                    "{node} has no registration port, and that is where the console reaches an edge: add one first."
                ).format(node=node.name)
            )
        return {"listen": port.bind}
    addresses = tuple(settings.CONSOLE_NODES_ADDRESS)
    if not addresses:
        raise EnrolmentError(
            gettext(
                "Nodes have no address to reach the console at: set CONSOLE_NODES_BIND, and CONSOLE_NODES_ADDRESS "
                "where they reach it by another one."
            )
        )
    return {"consoles": addresses}


def addresses_of(node: Node, own: str = "") -> list[str]:
    """Where an edge may be reached: the address that was given for it, and where internal nodes dial it."""
    ports = Port.objects.filter(node=node, type=PortType.REGISTRATION).prefetch_related("registrations__dials")
    found = [own] if own else []
    for port in ports:
        found += sorted({dial.address for row in port.registrations.all() for dial in row.dials.all()})
        found.append(port.bind)
    return list(dict.fromkeys(found))


def certify(node_name: str, asked: str, proof_key: bytes, *, now: datetime | None = None) -> str:
    """Use up the bundle of a node, whose proof was checked: its certificate, in PEM.

    Args:
        proof_key: what the proof was checked by: another bundle that was made since is not used up by it.
    Raises:
        EnrolmentError: there is none, it was used, another was made, or its time is over.
        AuthorityError: the request is none.
    """
    now = now or timezone.now()
    signs = authority_row()
    certificate = authority.certify_node(signs.pair, asked, node_name, now)
    parsed = x509.load_pem_x509_certificate(certificate.encode())
    with transaction.atomic():
        awaited = Enrolment.objects.filter(node__name=node_name, bundle_ends__gt=now)
        row, claimed = awaited.first(), 0
        if row is not None and compare_digest(sealing.open_sealed(row, "proof_key"), proof_key):
            # The conditional update is the claim: of two that come with the bundle at once, one has it.
            claimed = awaited.filter(proof_key=row.proof_key).update(
                proof_key=b"", bundle_ends=None, serial=authority.serial_of(parsed), next_serial="", next_serials=[],
                authority=signs.fingerprint, certificate_ends=parsed.not_valid_after_utc, enrolled_at=now,
                disowned_at=None,
            )  # fmt: skip
        if not claimed:
            raise EnrolmentError(
                gettext("There is no bundle for node {node_name} that can still be used. Make a new one.").format(
                    node_name=node_name
                )
            )
        row = Enrolment.objects.get(node__name=node_name)
        record_enrolment("courier", None, node_name, None, row.as_entry(), f"node {node_name} is enrolled")
    return certificate


def renew(node_name: str, asked: str, shown: str, *, now: datetime | None = None) -> str:
    """A new certificate beside the one in use.

    Args:
        shown: serial of the one that the link was proved by. Who was disowned, or whose node another machine is by
            now, may still hold a link: it is renewed by nothing that it says there.
    Raises:
        EnrolmentError, AuthorityError
    """
    now = now or timezone.now()
    certificate = authority.certify_node(authority_row().pair, asked, node_name, now)
    parsed = x509.load_pem_x509_certificate(certificate.encode())
    serial = authority.serial_of(parsed)
    with transaction.atomic():
        row = Enrolment.objects.enrolled().select_for_update().filter(node__name=node_name).first()
        if row is None:
            raise EnrolmentError(gettext("Node {node_name} is not enrolled.").format(node_name=node_name))
        if shown not in (row.serial, *row.renewed):
            raise EnrolmentError(
                gettext("Node {node_name} has another certificate by now.").format(node_name=node_name)
            )
        row.next_serial, row.next_serials = serial, [*row.renewed, serial][-RENEWALS:]
        row.save(update_fields=("next_serial", "next_serials"))
    return certificate


def seen(node_name: str, certificate: x509.Certificate) -> None:
    """A node came with its renewed certificate: the one before is worth nothing from now on."""
    serial = authority.serial_of(certificate)
    issuer = authority.issuer_of(certificate, authority.read_authorities(authority_row().believed))
    with transaction.atomic():
        row = Enrolment.objects.select_for_update().filter(node__name=node_name).first()
        if row is None or serial not in row.renewed:
            return
        row.serial, row.next_serial, row.next_serials = serial, "", []
        row.authority, row.certificate_ends = authority.fingerprint_of(issuer), certificate.not_valid_after_utc
        row.save(update_fields=("serial", "next_serial", "next_serials", "authority", "certificate_ends"))


def disown(node: Node, actor: str, origin: str | None, *, now: datetime | None = None) -> None:
    """The node's certificate and its bundle are worth nothing from now on."""
    with transaction.atomic():
        row = Enrolment.objects.select_for_update().filter(node=node).first()
        if row is None:
            return
        before = row.as_entry()
        row.serial, row.next_serial, row.next_serials = "", "", []
        row.proof_key, row.bundle_ends, row.certificate_ends = b"", None, None
        row.disowned_at = now or timezone.now()
        row.save()
        record_enrolment(actor, origin, node.name, before, row.as_entry(), f"node {node.name} is disowned")


def known_nodes(now: datetime | None = None) -> dict[str, Known]:
    """Every node that a courier is to be linked with, or that may come with a bundle."""
    now = now or datetime.now(UTC)
    found = {}
    for row in Enrolment.objects.remote().select_related("node"):
        awaited = row.is_awaited(now)
        addresses = addresses_of(row.node, row.address) if row.node.role == Role.EDGE else []
        found[row.node.name] = Known(
            row.node.name,
            row.node.role,
            tuple(addresses),
            frozenset(filter(None, (row.serial, *row.renewed))),
            sealing.open_sealed(row, "proof_key") if awaited else b"",
        )
    return found
