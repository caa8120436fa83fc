"""Certificates on file, and the user that each is mapped to.

One certificate may be on file once for each usage, as in webMethods, whose key of a record is issuer, serial number
and usage. The entry for `ssl_authentication` is the one that logs in; what blocks any of them blocks the certificate.
"""

from datetime import UTC, datetime
from functools import reduce
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext, gettext_lazy

from identity.core.certificates import Certificate as Parsed
from identity.core.certificates import CertificateError, from_der
from identity.models.base import Named, PortNames, name_is_safe
from identity.models.english import English
from identity.models.users import DEFAULT, User


class Usage(models.TextChoices):
    """What a certificate on file is for; only the first logs anybody in."""

    SSL_AUTHENTICATION = "ssl_authentication", gettext_lazy("SSL authentication (logs in)")
    VERIFY = "verify", gettext_lazy("Verify signatures")
    ENCRYPT = "encrypt", gettext_lazy("Encrypt")
    VERIFY_AND_ENCRYPT = "verify_and_encrypt", gettext_lazy("Verify and encrypt")
    MESSAGE_AUTHENTICATION = "message_authentication", gettext_lazy("Message authentication")


MAX_RENEWED = 200  # certificates of similar subjects that are looked at when one of them may be renewed


class Described(models.Model):
    """A stored certificate, with the columns that lists and searches need; all of them follow from `der`."""

    der = models.BinaryField(editable=False)
    sha256 = models.CharField(max_length=64, editable=False, verbose_name="SHA-256")
    subject = models.TextField(editable=False)
    issuer = models.TextField(editable=False)
    serial = models.CharField(max_length=64, editable=False, help_text=gettext_lazy("Hexadecimal"))
    alternative_names = models.TextField(
        blank=True, editable=False, help_text=gettext_lazy("One a line: dns:…, email:…")
    )
    not_before = models.DateTimeField(editable=False)
    not_after = models.DateTimeField(editable=False, db_index=True)

    class Meta:
        abstract = True

    # What was parsed of `der` last, so that one row is parsed once however often it is looked at.
    _parsed: Parsed | None = None

    def set_certificate(self, certificate: Parsed) -> None:
        self.der, self._parsed = certificate.der, certificate
        self.describe(certificate)

    def describe(self, certificate: Parsed) -> None:
        self.sha256 = certificate.sha256
        self.subject = certificate.subject.text
        self.issuer = certificate.issuer.text
        self.serial = f"{certificate.serial:x}"
        self.alternative_names = "\n".join(certificate.alternative_names)
        self.not_before = datetime.fromtimestamp(certificate.not_before, UTC)
        self.not_after = datetime.fromtimestamp(certificate.not_after, UTC)

    @property
    def certificate(self) -> Parsed:
        der = bytes(self.der)
        if self._parsed is None or self._parsed.der != der:
            self._parsed = from_der(der)
        return self._parsed

    def clean_fields(self, exclude: Any = None) -> None:
        # First, so that the derived columns are there when they are checked.
        if not self.der:
            raise ValidationError(gettext("A certificate is needed: PEM or DER."))
        try:
            self.describe(self.certificate)
        except CertificateError as error:
            raise ValidationError(English(error)) from error
        super().clean_fields(exclude)


class CertificateQuerySet(models.QuerySet["Certificate"]):
    def logging_in(self) -> Self:
        """Those that may log somebody in."""
        return self.filter(usage=Usage.SSL_AUTHENTICATION, blocked=False, user__isnull=False)

    def speaking_for(self, sha256: str) -> "Certificate | None":
        """The entry that decides for the certificate: of several usages, that which logs in."""
        rows = self.select_related("user").filter(sha256=sha256).order_by("name")
        return min(rows, key=lambda row: row.usage != Usage.SSL_AUTHENTICATION, default=None)

    def may_be_renewed_by(self, new: Parsed) -> "list[Certificate]":
        """Those of the same subject, as X.500 compares names; the one that ends last first."""
        words = Q()
        for word in new.subject.common_name.split():
            words &= Q(subject__icontains=word)
        near = self.select_related("user").filter(words).exclude(sha256=new.sha256).exclude(subject="")
        rows = [
            row for row in near.order_by("-not_after", "name")[:MAX_RENEWED] if row.certificate.subject == new.subject
        ]
        return rows if new.subject.rdns else []

    def matching(self, text: str) -> Self:
        """Those with `text` in what people know them by."""
        fields = ("name", "subject", "alternative_names", "serial", "sha256", "user__name", "description")
        return self.filter(reduce(Q.__or__, (Q(**{f"{name}__icontains": text}) for name in fields)))

    def left_to_rules(self) -> Self:
        """Those that a mapping rule may give a user."""
        return self.filter(usage=Usage.SSL_AUTHENTICATION, blocked=False, user__isnull=True)


class Certificate(Described, Named):
    """A certificate on file. With a user and the usage `ssl_authentication` it is an exact mapping."""

    user = models.ForeignKey(
        User,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="certificates",
        help_text=gettext_lazy("Requests that prove this certificate run as this user."),
    )
    usage = models.CharField(max_length=32, choices=Usage.choices, default=Usage.SSL_AUTHENTICATION)
    blocked = models.BooleanField(default=False, help_text="A blocked certificate logs nobody in, by no rule either.")
    subject_values = models.TextField(
        editable=False, default="", db_default="", help_text="The subject as rules compare it; empty: not known yet"
    )
    ports = PortNames(
        help_text=gettext_lazy("Where alone it logs anybody in, by a mapping rule too; none: everywhere.")
    )
    logs_in_until = models.DateTimeField(
        null=True,
        blank=True,
        help_text=gettext_lazy(
            "Empty: as long as it is valid. Otherwise it logs nobody in afterwards, by no rule either."
        ),
    )
    description = models.CharField(max_length=255, blank=True)

    objects = CertificateQuerySet.as_manager()

    class Meta(Named.Meta):
        constraints = [
            name_is_safe("certificate"),
            models.UniqueConstraint(
                fields=["sha256", "usage"],
                name="certificate_on_file_once_per_usage",
                violation_error_message=gettext_lazy("This certificate is on file for this usage already."),
            ),
            models.CheckConstraint(
                condition=Q(usage__in=Usage.values),
                name="certificate_usage_is_known",
                violation_error_message=gettext_lazy("Choose one of the usages."),
            ),
        ]
        # The few among 100,000 that a port's page names, and a port that goes looks for.
        indexes = [models.Index(fields=["name"], condition=~Q(ports=[]), name="certificate_limited_to_ports")]

    def describe(self, certificate: Parsed) -> None:
        super().describe(certificate)
        self.subject_values = certificate.subject.comparable()

    def clean(self) -> None:
        super().clean()
        if self.user_id and self.user.name == DEFAULT:
            raise ValidationError(
                {
                    "user": gettext(
                        "A certificate cannot be mapped to Default: it would make a known partner a stranger. "
                        "Choose a user of its own, or leave it unmapped."
                    )
                }
            )

    def validate_unique(self, exclude: Any = None) -> None:
        super().validate_unique(exclude=exclude)
        twin = Certificate.objects.filter(sha256=self.sha256, usage=self.usage).exclude(pk=self.pk).first()
        if twin:
            raise ValidationError(
                f"This certificate is on file already, as {twin.name}, "
                f"mapped to {twin.user.name if twin.user else 'nobody'}. It may be there once for each usage."
            )

    def validate_constraints(self, exclude: Any = None) -> None:
        # `validate_unique` has said already, in better words, what the unique constraint would say.
        super().validate_constraints(exclude=[*(exclude or ()), "sha256", "usage"])
