"""Uploading a certificate, and saying whom it means."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from console.forms.fields import NounForm, PemField, PortsField
from identity.core import certificates
from identity.core.certificates import CertificateError
from identity.models import Certificate, User


class UploadForm(forms.Form):
    """The file, or its text. `chain`, once it is valid: the certificate, then the issuers that came with it."""

    chain: tuple[certificates.Certificate, ...]

    certificate = PemField(
        label="Certificate",
        help_text="PEM or DER, 1 MB at most. In a PEM its issuers may follow it. Never a private key.",
    )

    def clean_certificate(self) -> bytes:
        data: bytes = self.cleaned_data["certificate"]
        try:
            self.chain = read_chain(data)
        except CertificateError as error:
            raise ValidationError(str(error)) from error
        return data


class CertificateForm(NounForm):
    """What is said of a certificate; the certificate itself never changes."""

    ports = PortsField(
        label="Logs in at",
        help_text="None chosen: at every port. Otherwise at these alone, and elsewhere by no mapping rule either.",
    )
    groups = [("Limit to ports", ["ports"], True)]

    class Meta:
        model = Certificate
        fields = ["name", "user", "usage", "ports", "description"]
        labels = {"user": "Runs as user"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["user"].queryset = User.objects.mappable()  # type: ignore[attr-defined]
        self.fields["user"].empty_label = "nobody yet"  # type: ignore[attr-defined]


class NewCertificateForm(CertificateForm):
    """The preview's form: carries the certificate along, and reads it again before it is believed."""

    pem = forms.CharField(widget=forms.HiddenInput, max_length=certificates.MAX_FILE)

    def fill(self) -> None:
        try:
            self.instance.set_certificate(read_chain((self.cleaned_data.get("pem") or "").encode())[0])
        except CertificateError as error:
            raise ValidationError(str(error)) from error


def read_chain(data: bytes) -> tuple[certificates.Certificate, ...]:
    """One certificate, and the issuers that follow it. Raises CertificateError, saying what would be right."""
    certificates.one_from_file(data)
    return certificates.from_file(data)
