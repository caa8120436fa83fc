"""Truststores: the authorities that a port believes, and their revocation lists."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext, gettext_lazy

from identity.core.chains import MAX_DEPTH, MAX_INTERMEDIATES
from identity.core.revocation import RevocationList as Parsed
from identity.core.revocation import load_crl
from identity.models.base import Named, name_is_safe
from identity.models.certificates import Described
from identity.models.english import English

SHORTEST, LONGEST = 60, 30 * 86_400  # seconds between two fetches of a list


class Revocation(models.TextChoices):
    """What a revocation list that has run out means."""

    HARD = "hard", gettext_lazy("Refuse (revocation_unknown)")
    SOFT = "soft", gettext_lazy("Let pass")


class Truststore(Named):
    """A set of anchors. An intermediate in it is an anchor too."""

    description = models.CharField(max_length=255, blank=True)
    revocation = models.CharField(max_length=8, choices=Revocation.choices, default=Revocation.HARD)
    max_intermediates = models.PositiveSmallIntegerField(
        default=MAX_DEPTH,
        db_default=MAX_DEPTH,
        validators=[MaxValueValidator(MAX_INTERMEDIATES)],
        verbose_name=gettext_lazy("authorities in between, at most"),
        help_text=gettext_lazy(
            "Between a certificate and an authority of the truststore. 0: only what these issue themselves."
        ),
    )

    class Meta(Named.Meta):
        constraints = [
            name_is_safe("truststore"),
            models.CheckConstraint(
                condition=Q(revocation__in=Revocation.values),
                name="truststore_revocation_is_known",
                violation_error_message=gettext_lazy("revocation is hard or soft."),
            ),
        ]

    def awaited(self) -> list[str]:
        """URLs from which a list is to come and has never come yet."""
        return [source.url for source in self.crl_sources.all() if not hasattr(source, "crl")]


class TrustedCertificate(Described):
    """One anchor of one truststore."""

    truststore = models.ForeignKey(Truststore, on_delete=models.CASCADE, related_name="certificates")

    class Meta:
        ordering = ["subject", "sha256"]
        constraints = [
            models.UniqueConstraint(
                fields=["truststore", "sha256"],
                name="trustedcertificate_once_per_truststore",
                violation_error_message=gettext_lazy("The truststore has this certificate already."),
            )
        ]

    def __str__(self) -> str:
        return self.subject


class RevocationSource(models.Model):
    """A URL from which the truststore's list of one authority is fetched, again and again."""

    truststore = models.ForeignKey(Truststore, on_delete=models.CASCADE, related_name="crl_sources")
    url = models.CharField(max_length=1000)
    every = models.PositiveIntegerField(
        default=3600,
        validators=[MinValueValidator(SHORTEST), MaxValueValidator(LONGEST)],
        help_text="Seconds between two fetches.",
    )

    class Meta:
        ordering = ["url"]
        constraints = [
            models.UniqueConstraint(
                fields=["truststore", "url"],
                name="revocationsource_once_per_truststore",
                violation_error_message=gettext_lazy("The truststore fetches from this URL already."),
            )
        ]

    def __str__(self) -> str:
        return self.url

    def clean_fields(self, exclude: Any = None) -> None:
        try:
            check_url(self.url)
        except ValueError as error:
            raise ValidationError({"url": English(error)}) from error
        super().clean_fields(exclude)

    @property
    def last(self) -> "RevocationFetch":
        """How fetching goes; one that was never tried has no times."""
        try:
            return self.fetch
        except RevocationFetch.DoesNotExist:
            return RevocationFetch(source=self)


def fetch_from(row: Truststore, wanted: dict[str, int]) -> None:
    """Make the sources of a truststore these: URL → seconds between two fetches. Raises ValidationError."""
    stored = {source.url: source for source in row.crl_sources.all()}
    for url in stored.keys() - wanted.keys():
        stored[url].delete()
    for url, every in wanted.items():
        source = stored.get(url) or RevocationSource(truststore=row, url=url)
        if source._state.adding or source.every != every:
            source.every = every
            source.full_clean()
            source.save()


def check_url(url: str) -> None:
    """Raises ValueError unless lists can be fetched from it."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or not url.isascii() or any(character <= " " for character in url):
        raise ValueError(gettext("Give an http or https URL, like http://pki.partner.example/ca.crl."))
    if "@" in parts.netloc:
        raise ValueError(gettext("A URL with a password in it would be shown to whoever sees the configuration."))


class RevocationFetch(models.Model):
    """How the last fetches went. State, and no configuration: no node decides by it, and nobody is asked."""

    source = models.OneToOneField(RevocationSource, on_delete=models.CASCADE, related_name="fetch")
    tried_at = models.DateTimeField(null=True)
    succeeded_at = models.DateTimeField(null=True)
    error = models.TextField(blank=True)

    def __str__(self) -> str:
        return f"fetches from {self.source}"


class RevocationList(models.Model):
    """A CRL (RFC 5280, section 5) of an authority in the truststore: uploaded, or fetched from a source.

    An authority has one for each of its keys and each part of its certificates that it lists apart (`scope`).
    One that was uploaded may be of an authority that is not here (`of_other`), and that callers send: who signed it
    is proved where that one's certificate is seen. What is fetched is believed for its signature alone, and so is not.
    """

    truststore = models.ForeignKey(Truststore, on_delete=models.CASCADE, related_name="crls")
    source = models.OneToOneField(
        RevocationSource, null=True, editable=False, on_delete=models.CASCADE, related_name="crl"
    )
    der = models.BinaryField(editable=False)
    issuer = models.TextField(editable=False)
    issuer_key = models.CharField(max_length=64, default="", db_default="", editable=False, help_text="SHA-256, hex")
    scope = models.TextField(default="", db_default="", editable=False)
    of_other = models.BooleanField(default=False, db_default=False, editable=False)
    last_update = models.DateTimeField(editable=False)
    next_update = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["issuer", "scope", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["truststore", "issuer", "issuer_key", "scope"],
                condition=Q(source=None),
                name="revocationlist_once_per_authority",
                violation_error_message=gettext_lazy("The truststore has a revocation list of this authority already."),
            )
        ]

    def __str__(self) -> str:
        return f"CRL of {self.issuer}"

    def clean_fields(self, exclude: Any = None) -> None:
        # Asked anew: what was read along with the truststore may be from before one was added.
        anchors = [row.certificate for row in TrustedCertificate.objects.filter(truststore=self.truststore_id)]
        try:
            self.describe(load_crl(bytes(self.der), anchors, of_others=self.source_id is None))
        except ValueError as error:
            raise ValidationError(English(error)) from error
        super().clean_fields(exclude)

    def describe(self, crl: Parsed) -> None:
        self.issuer, self.issuer_key, self.scope = crl.issuer.text, crl.issuer_spki_sha256, crl.scope
        self.of_other = not crl.issuer_spki_sha256
        self.last_update = datetime.fromtimestamp(crl.this_update, UTC)
        self.next_update = datetime.fromtimestamp(crl.next_update, UTC) if crl.next_update is not None else None

    @property
    def overdue(self) -> bool:
        return self.next_update is not None and self.next_update < datetime.now(UTC)
