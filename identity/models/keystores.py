"""Keystores: a certificate with its private key, which is sealed at rest."""

from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from identity.core import certificates
from identity.core.certificates import Certificate as Parsed
from identity.core.certificates import CertificateError
from identity.models import sealing
from identity.models.base import Named, name_is_safe


class Keystore(Named):
    """What a port shows as its server certificate, or an endpoint as its client certificate."""

    SEALED = ("private_key",)

    description = models.CharField(max_length=255, blank=True)
    chain = models.TextField(editable=False, help_text="PEM: the certificate, then its intermediates.")
    private_key = models.BinaryField(editable=False, help_text="PKCS#8 PEM, sealed.")
    sha256 = models.CharField(max_length=64, editable=False, verbose_name="SHA-256")
    subject = models.TextField(editable=False)
    not_after = models.DateTimeField(editable=False)

    class Meta(Named.Meta):
        constraints = [name_is_safe("keystore")]

    def set_pair(self, chain: tuple[Parsed, ...], key: object) -> None:
        """Certificate (leaf first) and private key together: one is worth nothing without the other.

        Raises:
            ValidationError: the key is not the certificate's.
        """
        if not certificates.key_matches(key, chain[0]):
            raise ValidationError({"private_key": f"The private key does not belong to {chain[0].title}."})
        self.chain = certificates.pem_of(chain)
        self.sha256, self.subject = chain[0].sha256, chain[0].subject.text
        self.not_after = datetime.fromtimestamp(chain[0].not_after, UTC)
        sealing.seal(self, "private_key", certificates.key_pem(key))

    @property
    def certificates(self) -> tuple[Parsed, ...]:
        return certificates.from_file(self.chain.encode())

    @property
    def certificate(self) -> Parsed:
        return self.certificates[0]

    def open_private_key(self) -> bytes:
        """PKCS#8 PEM, in the clear: for the relay's memory alone."""
        return sealing.open_sealed(self, "private_key")

    def clean_fields(self, exclude: Any = None) -> None:
        if not self.chain or not self.private_key:
            raise ValidationError("A keystore needs a certificate and its private key.")
        try:
            leaf = self.certificate
        except CertificateError as error:
            raise ValidationError(str(error)) from error
        self.sha256, self.subject = leaf.sha256, leaf.subject.text
        self.not_after = datetime.fromtimestamp(leaf.not_after, UTC)
        super().clean_fields(exclude)
