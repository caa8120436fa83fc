"""What the console keeps besides the configuration: refusals that nodes told of, tests, and how they went.

Nothing is decided by any of it.
"""

from typing import Self

from django.db import models
from django.db.models import Q

# --- what nodes refused ---


class RefusalKind(models.TextChoices):
    REQUEST = "request", "request"
    HANDSHAKE = "handshake", "handshake"


class RefusalQuerySet(models.QuerySet["Refusal"]):
    def requests(self) -> Self:
        """One for each request, however many nodes told of it."""
        return self.filter(kind=RefusalKind.REQUEST, head=True)

    def of_strangers(self) -> Self:
        """Of those with a certificate about which there is something to decide: shown, and not let in for it."""
        return self.filter(proven=True)


class Refusal(models.Model):
    """A request or a handshake that a node refused, as that node told it."""

    node = models.CharField(max_length=255)
    source = models.CharField(max_length=32, help_text="The ring of the node's worker that it was read from")
    number = models.BigIntegerField(help_text="In that ring: nothing is stored twice, whoever reads it")
    kind = models.CharField(max_length=16, choices=RefusalKind.choices)
    at = models.DateTimeField()
    trace_id = models.CharField(max_length=32, blank=True, db_index=True)
    inner = models.BooleanField(default=False, help_text="It came through a tunnel: the node before may tell of it too")
    head = models.BooleanField(default=True, help_text="The first node's word on it, as far as it is known")
    test = models.BooleanField(default=False)
    port = models.CharField(max_length=255)
    peer = models.CharField(max_length=64)
    method = models.CharField(max_length=32, blank=True)
    path = models.TextField(blank=True)
    status = models.PositiveSmallIntegerField(default=0)
    reason = models.CharField(max_length=64, blank=True)
    cause = models.CharField(max_length=64, blank=True, help_text="The reason of the last node that it came to")
    words = models.TextField(blank=True)
    user = models.CharField(max_length=255, blank=True)
    certificate = models.CharField(max_length=64, blank=True, help_text="SHA-256 of what was shown")
    subject = models.TextField(blank=True)
    issuer = models.TextField(blank=True)
    proven = models.BooleanField(default=False, help_text="A certificate was shown here, and refused for what it is")
    lanes = models.JSONField(default=list)

    objects = RefusalQuerySet.as_manager()

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [models.UniqueConstraint(fields=["node", "source", "number"], name="refusal_once")]
        indexes = [
            models.Index(fields=["kind", "head", "-at"], name="refusal_by_time"),
            models.Index(fields=["cause", "-at"], name="refusal_by_cause"),
            models.Index(fields=["user", "-at"], name="refusal_by_user"),
            models.Index(fields=["port", "-at"], name="refusal_by_port"),
            models.Index(fields=["certificate", "-at"], name="refusal_by_certificate"),
            models.Index(fields=["-at"], condition=Q(proven=True), name="refusal_of_strangers"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} refused by {self.node}"


class ShownCertificate(models.Model):
    """What callers showed who were refused: leaf first, as it came. To be mapped, trusted or blocked from there."""

    sha256 = models.CharField(max_length=64, primary_key=True)
    pem = models.TextField()
    seen_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"…{self.sha256[-8:]}"
