"""Truststores: the authorities that a port believes, and their revocation lists."""

from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from identity.core import names
from identity.models.base import Named, name_is_safe
from identity.models.certificates import Described


class Revocation(models.TextChoices):
    """What a revocation list that has run out means."""

    HARD = "hard", "Refuse (revocation_unknown)"
    SOFT = "soft", "Let pass"


class Truststore(Named):
    """A set of anchors. An intermediate in it is an anchor too."""

    description = models.CharField(max_length=255, blank=True)
    revocation = models.CharField(max_length=8, choices=Revocation.choices, default=Revocation.HARD)

    class Meta(Named.Meta):
        constraints = [
            name_is_safe("truststore"),
            models.CheckConstraint(
                condition=Q(revocation__in=Revocation.values),
                name="truststore_revocation_is_known",
                violation_error_message="revocation is hard or soft.",
            ),
        ]


class TrustedCertificate(Described):
    """One anchor of one truststore."""

    truststore = models.ForeignKey(Truststore, on_delete=models.CASCADE, related_name="certificates")

    class Meta:
        ordering = ["subject", "sha256"]
        constraints = [
            models.UniqueConstraint(
                fields=["truststore", "sha256"],
                name="trustedcertificate_once_per_truststore",
                violation_error_message="The truststore has this certificate already.",
            )
        ]

    def __str__(self) -> str:
        return self.subject


class RevocationList(models.Model):
    """A CRL (RFC 5280, section 5) of an authority in the truststore."""

    truststore = models.ForeignKey(Truststore, on_delete=models.CASCADE, related_name="crls")
    der = models.BinaryField(editable=False)
    issuer = models.TextField(editable=False)
    last_update = models.DateTimeField(editable=False)
    next_update = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["issuer"]
        constraints = [
            models.UniqueConstraint(
                fields=["truststore", "issuer"],
                name="revocationlist_once_per_issuer",
                violation_error_message="The truststore has a revocation list of this authority already.",
            )
        ]

    def __str__(self) -> str:
        return f"CRL of {self.issuer}"

    def clean_fields(self, exclude: Any = None) -> None:
        try:
            crl = x509.load_der_x509_crl(bytes(self.der))
        except Exception as error:
            raise ValidationError("This is not a revocation list (CRL) in DER or PEM.") from error
        self.issuer = names.from_x509(crl.issuer).text
        self.last_update = crl.last_update_utc.astimezone(UTC)
        self.next_update = crl.next_update_utc.astimezone(UTC) if crl.next_update_utc else None
        super().clean_fields(exclude)

    @property
    def overdue(self) -> bool:
        return self.next_update is not None and self.next_update < datetime.now(UTC)
