"""Keystores: a certificate with its private key, which is sealed at rest; and the pair that is to take its place."""

from datetime import UTC, datetime
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext, gettext_lazy

from identity.core import certificates, files, issuing
from identity.core.certificates import Certificate as Parsed
from identity.core.certificates import CertificateError
from identity.core.files import PrivateKey
from identity.models import sealing
from identity.models.base import Named, name_is_safe
from identity.models.english import English


class KeystoreQuerySet(models.QuerySet["Keystore"]):
    def due(self, now: datetime) -> Self:
        """Those whose next certificate is to be shown from now on."""
        return self.filter(next_from__lte=now).exclude(next_chain="")


class Keystore(Named):
    """What a port shows as its server certificate, or an endpoint as its client certificate.

    `next_…` is its renewal: a key that waits for its certificate, or a whole pair that waits for its time. Until the
    two are swapped, nodes know nothing of it.
    """

    SEALED = ("private_key", "next_private_key")

    description = models.CharField(max_length=255, blank=True)
    chain = models.TextField(editable=False, help_text="PEM: the certificate, then its intermediates.")
    private_key = models.BinaryField(editable=False, help_text="PKCS#8 PEM, sealed.")
    sha256 = models.CharField(max_length=64, editable=False, verbose_name="SHA-256")
    subject = models.TextField(editable=False)
    not_after = models.DateTimeField(editable=False)
    # `db_default`: a console of the version before, which knows nothing of these, can still add a keystore.
    next_chain = models.TextField(
        editable=False, blank=True, default="", db_default="", help_text="PEM; empty while it is waited for."
    )
    next_private_key = models.BinaryField(
        editable=False, blank=True, default=b"", db_default=b"", help_text="PKCS#8 PEM, sealed."
    )
    next_request = models.TextField(editable=False, blank=True, default="", db_default="", help_text="PKCS#10 in PEM.")
    next_from = models.DateTimeField(null=True, blank=True, editable=False, help_text="When it is swapped in.")

    objects = KeystoreQuerySet.as_manager()

    class Meta(Named.Meta):
        constraints = [
            name_is_safe("keystore"),
            models.CheckConstraint(
                condition=Q(next_from__isnull=True) | ~Q(next_chain=""),
                name="keystore_next_from_needs_a_certificate",
                violation_error_message=gettext_lazy("Only a renewal that has its certificate can be given a time."),
            ),
        ]

    # --- the pair in use ---

    def set_pair(self, chain: tuple[Parsed, ...], key: PrivateKey) -> None:
        """Certificate (leaf first) and private key together: one is worth nothing without the other.

        Raises:
            ValidationError: the key is not the certificate's.
        """
        _check_pair(chain, key)
        self.chain = certificates.pem_of(chain)
        self._describe(chain[0])
        sealing.seal(self, "private_key", certificates.key_pem(key))

    @property
    def certificates(self) -> tuple[Parsed, ...]:
        return files.certificates_from(self.chain.encode())

    @property
    def certificate(self) -> Parsed:
        return self.certificates[0]

    def open_private_key(self) -> bytes:
        """PKCS#8 PEM, in the clear: for the relay's memory alone."""
        return sealing.open_sealed(self, "private_key")

    def key(self) -> PrivateKey:
        """To sign a request with; never to be shown. Raises VaultError."""
        return files.own_key(self.open_private_key())

    def holds(self, chain: tuple[Parsed, ...], key: PrivateKey) -> bool:
        """Whether this pair is the one in use. Raises VaultError."""
        return self.chain == certificates.pem_of(chain) and self._is_sealed("private_key", key)

    def _is_sealed(self, column: str, key: PrivateKey) -> bool:
        return sealing.open_sealed(self, column) == certificates.key_pem(key)

    def request(self) -> str:
        """What asks for a certificate of the key that waits for one, else of the key in use. Raises VaultError."""
        if self.next_request:
            return self.next_request
        leaf, key = self.certificate, self.next_key() if self.next_private_key else self.key()
        return issuing.request(key, leaf.parsed.subject.rfc4514_string(), leaf.alternative_names)

    # --- the one that is to take its place ---

    @property
    def renewal(self) -> str:
        """`""`: there is none; `asked`: its certificate is waited for; `ready`: it can be swapped in."""
        return "ready" if self.next_chain else "asked" if self.next_private_key else ""

    @property
    def next_certificates(self) -> tuple[Parsed, ...]:
        return files.certificates_from(self.next_chain.encode()) if self.next_chain else ()

    def next_key(self) -> PrivateKey:
        """Raises VaultError."""
        return files.own_key(sealing.open_sealed(self, "next_private_key"))

    def ask(self, key: PrivateKey, request: str) -> None:
        """A new renewal: this key, for which `request` asks a certificate. One that was under way is dropped."""
        self.drop_next()
        self.next_request = request
        sealing.seal(self, "next_private_key", certificates.key_pem(key))

    def set_next(self, chain: tuple[Parsed, ...], key: PrivateKey, at: datetime | None = None) -> None:
        """The pair that is to take over, at that time or when somebody says so. Raises ValidationError."""
        _check_pair(chain, key)
        self.next_chain, self.next_from = certificates.pem_of(chain), at
        sealing.seal(self, "next_private_key", certificates.key_pem(key))

    def holds_next(self, chain: tuple[Parsed, ...], key: PrivateKey, at: datetime | None) -> bool:
        """Whether this pair is the one that is to take over, at that time. Raises VaultError."""
        same = self.next_chain == certificates.pem_of(chain) and self.next_from == at
        return same and self._is_sealed("next_private_key", key)

    def drop_next(self) -> None:
        self.next_chain, self.next_private_key, self.next_request, self.next_from = "", b"", "", None

    def swap(self) -> None:
        """The renewal is the pair in use from now on. Raises ValidationError where it has no certificate yet."""
        if self.renewal != "ready":
            raise ValidationError(gettext("The renewal has no certificate yet; upload the authority's answer first."))
        self.set_pair(self.next_certificates, self.next_key())
        self.drop_next()

    # --- checks ---

    def _describe(self, leaf: Parsed) -> None:
        self.sha256, self.subject = leaf.sha256, leaf.subject.text
        self.not_after = datetime.fromtimestamp(leaf.not_after, UTC)

    def clean_fields(self, exclude: Any = None) -> None:
        if not self.chain or not self.private_key:
            raise ValidationError(gettext("A keystore needs a certificate and its private key."))
        try:
            self._describe(self.certificate)
        except CertificateError as error:
            raise ValidationError(English(error)) from error
        super().clean_fields(exclude)


def _check_pair(chain: tuple[Parsed, ...], key: PrivateKey) -> None:
    if not certificates.key_matches(key, chain[0]):
        raise ValidationError(
            {"private_key": gettext("The private key does not belong to {title}.").format(title=chain[0].title)}
        )
