"""Uploading a certificate, and saying whom it means and what it replaces."""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy

from console.forms.choosing import NamedChoiceField
from console.forms.fields import FilePasswordField, MomentField, NounForm, PemField, PortsField
from identity.core import files
from identity.core.certificates import Certificate as Parsed
from identity.core.certificates import CertificateError
from identity.models import Certificate, User
from identity.models.english import English

OVERLAP = timedelta(days=30)  # in which old and new both log in, unless another end is chosen


class UploadForm(forms.Form):
    """The file, or its text.

    Attributes, once it is valid:
        chain: the certificate, then the issuers that came with it.
        left_out: whether a private key came with it, and was dropped.
    """

    chain: tuple[Parsed, ...]
    left_out: bool

    certificate = PemField(
        label=gettext_lazy("Certificate"),
        help_text=gettext_lazy(
            "PEM, DER, PKCS#7 or PKCS#12, 1 MB at most. Its issuers may be in it. Never send a private key."
        ),
    )
    password = FilePasswordField()

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if data := given.get("certificate"):
            try:
                found = files.read(data, given.get("password"))
                self.chain, self.left_out = files.in_order(files.needed(found).certificates), found.left_out
            except CertificateError as error:
                self.add_error("certificate", English(error))
        return given


class CertificateForm(NounForm):
    """What is said of a certificate; the certificate itself never changes."""

    logs_in_until = MomentField(
        label=gettext_lazy("Logs in until"),
        help_text=gettext_lazy(
            "Empty: as long as it is valid. Set it when a renewal takes its place: afterwards it logs nobody in."
        ),
    )
    ports = PortsField(
        label=gettext_lazy("Logs in at"),
        help_text=gettext_lazy(
            "None chosen: at every port. Otherwise at these alone, and elsewhere by no mapping rule either."
        ),
    )
    groups = [(gettext_lazy("Limit to ports"), ["ports"], True)]

    class Meta:
        model = Certificate
        fields = ["name", "user", "usage", "logs_in_until", "ports", "description"]
        labels = {"user": gettext_lazy("Runs as user")}
        field_classes = {"user": NamedChoiceField}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["user"].queryset = User.objects.mappable()  # type: ignore[attr-defined]
        self.fields["user"].empty_label = gettext("nobody yet")  # type: ignore[attr-defined]


class NewCertificateForm(CertificateForm):
    """The preview's form: carries the certificate along, and reads it again before it is believed."""

    logs_in_until = None  # type: ignore[assignment]  # of a new one nobody says when it ends

    pem = forms.CharField(widget=forms.HiddenInput, max_length=files.MAX_FILE)
    replaces = forms.ModelChoiceField(
        queryset=Certificate.objects.none(),
        required=False,
        empty_label=gettext_lazy("nothing: whatever is on file stays as it is"),
        help_text=gettext_lazy(
            "It runs as the same user. Callers may change over in their own time: until then both log in."
        ),
    )
    old_until = forms.DateField(
        required=False, label=gettext_lazy("The old one logs in until the end of"),
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        help_text=gettext_lazy("Empty: as long as it is valid."),
    )  # fmt: skip

    class Meta(CertificateForm.Meta):
        fields = ["name", "user", "usage", "ports", "description"]

    groups = [(gettext_lazy("Renewal"), ["replaces", "old_until"], False), *CertificateForm.groups]

    def __init__(self, *args: Any, candidates: Sequence[Certificate] = (), **kwargs: Any) -> None:
        """`candidates`: the certificates on file that it may replace."""
        super().__init__(*args, **kwargs)
        if candidates:
            replaces: Any = self.fields["replaces"]
            replaces.queryset = Certificate.objects.filter(pk__in=[row.pk for row in candidates]).select_related("user")
            replaces.label_from_instance = _label
        else:
            del self.fields["replaces"], self.fields["old_until"]

    def clean_old_until(self) -> date | None:
        day: date | None = self.cleaned_data["old_until"]
        if day is not None and day < timezone.localdate():
            raise ValidationError(gettext("That day is over. Choose today or later, or block the old certificate."))
        return day

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if old := given.get("replaces"):
            given["user"] = given.get("user") or old.user
            if given["user"] != old.user:
                self.add_error(
                    "user",
                    gettext("{old} runs as {user}, and what replaces it does too. Choose that user.").format(
                        old=old, user=old.user
                    ),
                )
            if given.get("usage") != old.usage:
                self.add_error(
                    "usage",
                    gettext("{old} is there for: {usage}. Choose the same.").format(
                        old=old, usage=old.get_usage_display()
                    ),
                )
        return given

    def fill(self) -> None:
        try:
            sent = files.chain_from((self.cleaned_data.get("pem") or "").encode())
        except CertificateError as error:
            raise ValidationError(English(error)) from error
        self.instance.set_certificate(sent[0])

    def _save_m2m(self) -> None:
        super()._save_m2m()  # type: ignore[misc]
        old, day = self.cleaned_data.get("replaces"), self.cleaned_data.get("old_until")
        if old is not None and day is not None:
            old.logs_in_until = end_of(day)
            old.save()


def end_of(day: date) -> datetime:
    """The moment in which the day is over, in the console's time zone."""
    return timezone.make_aware(datetime.combine(day + timedelta(days=1), time.min))


def overlap_end(old: Certificate) -> date | None:
    """The day that is proposed as the old one's last; None where it ends by itself before."""
    day = timezone.localdate() + OVERLAP
    return day if end_of(day) < old.not_after else None


def _label(row: Certificate) -> str:
    return gettext("{row} (runs as {user}, ends {not_after:%Y-%m-%d}, …{sha256})").format(
        row=row, user=row.user or gettext("nobody"), not_after=row.not_after, sha256=row.sha256[-8:]
    )
