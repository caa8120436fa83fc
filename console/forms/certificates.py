"""Uploading a certificate and saying whom it means."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from console.forms.fields import NounForm, PemField
from identity.core import certificates
from identity.core.certificates import CertificateError
from identity.models import Certificate, User


class UploadForm(forms.Form):
    certificate = PemField(
        label="Certificate",
        help_text="PEM or DER, 1 MB at most. A PEM may hold the issuers after it. Never a private key.",
    )

    def clean_certificate(self) -> bytes:
        data: bytes = self.cleaned_data["certificate"]
        try:
            certificates.one_from_file(data)
            self.chain = certificates.from_file(data)
        except CertificateError as error:
            raise ValidationError(str(error)) from error
        return data


class CertificateForm(NounForm):
    """What is said of a certificate; the certificate itself never changes."""

    class Meta:
        model = Certificate
        fields = ["name", "user", "usage", "blocked", "description"]
        labels = {"user": "Runs as user"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["user"].queryset = User.objects.mappable()  # type: ignore[attr-defined]
        self.fields["user"].empty_label = "nobody yet"  # type: ignore[attr-defined]


class NewCertificateForm(CertificateForm):
    """The preview's form: carries the certificate along, and reads it again before it is believed."""

    pem = forms.CharField(widget=forms.HiddenInput, max_length=certificates.MAX_FILE)

    class Meta(CertificateForm.Meta):
        fields = ["name", "user", "usage", "description"]

    def fill(self) -> None:
        try:
            self.instance.set_certificate(certificates.one_from_file((self.cleaned_data.get("pem") or "").encode()))
        except CertificateError as error:
            raise ValidationError(str(error)) from error
