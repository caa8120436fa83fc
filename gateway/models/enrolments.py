"""How the installation knows its nodes on other machines, and what was last heard of each."""

from datetime import datetime
from typing import Any, Self

from cryptography import x509
from django.db import models
from django.db.models import Q
from django.utils import timezone

from gateway.models.nodes import Node
from identity.core.authority import Pair, fingerprint_of
from identity.models import sealing


class Authority(models.Model):
    """The installation's own small authority and the console's certificate from it: one row, or none yet.

    Attributes:
        old_certificate: of the authority that is being exchanged for this one, "" for none. It is believed and signs
            nothing more: its key is gone.
        old_console_certificate, old_console_key: the console's, from that one.
    """

    ONLY = 1
    SEALED = ("key", "console_key", "old_console_key")

    id = models.PositiveSmallIntegerField(primary_key=True, default=ONLY)
    certificate = models.TextField()
    key = models.BinaryField()
    console_certificate = models.TextField()
    console_key = models.BinaryField()
    old_certificate = models.TextField(blank=True, default="", db_default="")
    old_console_certificate = models.TextField(blank=True, default="", db_default="")
    old_console_key = models.BinaryField(default=b"", db_default=b"")

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="authority_is_one")]

    def __str__(self) -> str:
        return "the authority of this installation's nodes"

    @property
    def pair(self) -> Pair:
        return Pair(self.certificate, sealing.open_sealed(self, "key").decode())

    @property
    def console(self) -> Pair:
        return Pair(self.console_certificate, sealing.open_sealed(self, "console_key").decode())

    @property
    def shown(self) -> Pair:
        """What links are opened with: the certificate that every node believes that was not left behind."""
        if not self.old_certificate:
            return self.console
        return Pair(self.old_console_certificate, sealing.open_sealed(self, "old_console_key").decode())

    @property
    def believed(self) -> str:
        """PEM; the one that signs is the first."""
        return self.certificate + self.old_certificate

    @property
    def certificates(self) -> tuple[str, str, str]:
        """What can be told without opening a key: those believed, the console's, and the one that links show."""
        return self.believed, self.console_certificate, self.old_console_certificate or self.console_certificate

    @property
    def fingerprint(self) -> str:
        """Of the one that signs."""
        return fingerprint_of(x509.load_pem_x509_certificate(self.certificate.encode()))


class EnrolmentQuerySet(models.QuerySet["Enrolment"]):
    def enrolled(self) -> Self:
        """Of nodes that have a certificate, and so a machine of their own."""
        return self.filter(serial__gt="")

    def remote(self) -> Self:
        """Of nodes that run on machines of their own, or are about to."""
        return self.filter(Q(serial__gt="") | Q(bundle_ends__gt=timezone.now()))


class Enrolment(models.Model):
    """A node on a machine of its own: the bundle that it may come with, the certificate that it has.

    Attributes:
        address: of an edge: HOST:PORT at which the console reaches its registration port.
        proof_key: what a bundle that is not used yet is proved by; made of its secret, which is nowhere.
        serial: of the certificate in use, hex.
        next_serials: of those that renewals made, until one is used: two consoles may renew at once, and which of the
            two comes to the node first is not known here. `next_serial` is the last of them, by which a console of
            the version before knows it.
        authority: fingerprint of the one that the certificate in use is from; "" for the first that there was.
    """

    SEALED = ("proof_key",)

    node = models.OneToOneField(Node, on_delete=models.CASCADE, related_name="enrolment", primary_key=True)
    address = models.CharField(max_length=255, blank=True)
    proof_key = models.BinaryField(default=b"")
    bundle_ends = models.DateTimeField(null=True)
    serial = models.CharField(max_length=64, blank=True)
    next_serial = models.CharField(max_length=64, blank=True)
    next_serials = models.JSONField(default=list, blank=True, db_default=models.Value([], models.JSONField()))
    authority = models.CharField(max_length=64, blank=True, default="", db_default="")
    certificate_ends = models.DateTimeField(null=True)
    enrolled_at = models.DateTimeField(null=True)
    disowned_at = models.DateTimeField(null=True)

    objects = EnrolmentQuerySet.as_manager()

    def __str__(self) -> str:
        return f"enrolment of {self.node}"

    @property
    def is_enrolled(self) -> bool:
        return bool(self.serial)

    @property
    def renewed(self) -> list[str]:
        """Serials of certificates that the node may come with from now on, the last one last."""
        return list(dict.fromkeys(filter(None, [*self.next_serials, self.next_serial])))

    def is_awaited(self, now: datetime | None = None) -> bool:
        """Whether there is a bundle that can be used."""
        return self.bundle_ends is not None and self.bundle_ends > (now or timezone.now())

    def as_entry(self) -> dict[str, Any]:
        """For the audit log."""
        entry = {"address": self.address, "certificate": self.serial}
        entry["state"] = "enrolled" if self.is_enrolled else "awaited" if self.is_awaited() else "disowned"
        return {name: value for name, value in entry.items() if value}


class NodeStatus(models.Model):
    """What a courier last knew of a node: shown, and never decided by.

    Attributes:
        courier: which of the consoles' couriers says so.
        linked: whether it has a link with the node.
        revision: in force there; on_way: sent and not yet acknowledged, 0 for none.
        authorities: fingerprints of those that it believes, as it last said; none where it never did.
        problem: why there is no link, or why the last delivery was refused; "" for neither.
    """

    node = models.OneToOneField(Node, on_delete=models.CASCADE, related_name="status", primary_key=True)
    courier = models.CharField(max_length=255)
    linked = models.BooleanField(default=False)
    since = models.DateTimeField()
    heard = models.DateTimeField(null=True)
    revision = models.BigIntegerField(default=-1)
    in_force_since = models.DateTimeField(null=True)
    authorities = models.JSONField(default=list, blank=True, db_default=models.Value([], models.JSONField()))
    on_way = models.BigIntegerField(default=0)
    on_way_since = models.DateTimeField(null=True)
    problem = models.TextField(blank=True)

    class Meta:
        verbose_name_plural = "node statuses"

    def __str__(self) -> str:
        return f"status of {self.node}"
