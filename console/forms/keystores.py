"""Keystores: uploaded, or made here; and their renewal, which waits beside them until it takes over."""

from contextlib import suppress
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy

from console.forms.fields import FilePasswordField, LinesField, MomentField, NounForm, PemField
from identity.core import files, issuing
from identity.core.certificates import CertificateError, key_matches
from identity.core.files import Contents, FieldError
from identity.core.issuing import KeyKind
from identity.core.names import x509_name
from identity.core.vault import VaultError
from identity.models import Keystore
from identity.models.english import English

KINDS = [
    (KeyKind.EC_P256.value, gettext_lazy("EC P-256: fast, and understood by every client of this decade")),
    (KeyKind.RSA_2048.value, gettext_lazy("RSA 2048: for old clients")),
    (KeyKind.RSA_3072.value, gettext_lazy("RSA 3072")),
    (KeyKind.RSA_4096.value, gettext_lazy("RSA 4096: slower handshakes")),
    (KeyKind.ED25519.value, gettext_lazy("Ed25519: not for browsers, nor for Java before 15")),
]
SAME_KEY = ("same", gettext_lazy("the key that it has: only the certificate is new"))
_OTHER_KEY = gettext_lazy(
    "is of another key than the one that is kept here. Send it with its key, or what was made of the request."
)
_NO_KEY = gettext_lazy("The key cannot be opened: the master key that sealed it is not configured. Upload a new pair.")


class PairFields(forms.Form):
    """A certificate with its key, from one file or two."""

    certificate = PemField(
        required=False, label=gettext_lazy("Certificate"),
        help_text=gettext_lazy("PEM, DER, PKCS#7, or PKCS#12 with its key; its intermediates may be in it."),
    )  # fmt: skip
    private_key = PemField(
        required=False,
        secret=True,
        help_text=gettext_lazy(
            "PEM, DER or PKCS#12; not needed where the certificate's file has it. It is sealed, and never shown again."
        ),
    )
    pass_phrase = FilePasswordField(
        label=gettext_lazy("Pass phrase"),
        help_text=gettext_lazy("Of an encrypted key or a PKCS#12 file. Kept nowhere."),
    )


def read_pair(data: dict[str, Any], *known: files.PrivateKey) -> tuple[Any, files.PrivateKey]:
    """Chain and key of `PairFields`; a certificate without a key may belong to one of the `known` ones.

    Raises:
        ValidationError: at the field that is wrong.
    """
    password = data.get("pass_phrase") or None
    sent = [(name, data[name]) for name in ("certificate", "private_key") if data.get(name)]
    try:
        found = [(name, files.read_part(name, each, password)) for name, each in sent]
        alone = [contents for _, contents in found if contents.certificates]
        if alone and known and not any(contents.key for _, contents in found):
            leaf = files.in_order(alone[0].certificates)[0]
            key = next((key for key in known if key_matches(key, leaf)), None)
            if key is None:
                raise FieldError("certificate", f"{leaf.title} {_OTHER_KEY}")
            found.append(("private_key", Contents("stored", (), key)))
        return files.pair_of(found)
    except FieldError as error:
        raise ValidationError({error.field: English(error)}) from error
    except CertificateError as error:
        raise ValidationError({"certificate": English(error)}) from error


class KeystoreForm(PairFields, NounForm):
    class Meta:
        model = Keystore
        fields = ["name", "description"]

    groups = [(gettext_lazy("Certificate and key"), ["certificate", "private_key", "pass_phrase"], False)]
    shown_at = {"chain": "certificate"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            self.groups = [(gettext("Replace certificate and key at once"), self.groups[0][1], True)]
            self.fields["certificate"].help_text += gettext(" Alone if it is of the key that is here.")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if self.instance._state.adding and not (data.get("certificate") or data.get("private_key")):
            self.add_error(
                "certificate", gettext("Certificate and key come together: choose a file, or paste its text.")
            )
        return data

    def fill(self) -> None:
        data = self.cleaned_data
        if data.get("certificate") or data.get("private_key"):
            self.instance.set_pair(*read_pair(data, *_stored_keys(self.instance)))


def _stored_keys(row: Keystore) -> list[files.PrivateKey]:
    """The key in use, which an authority may have answered a request for; none of a row that is new or is lost."""
    try:
        return [] if row._state.adding else [row.key()]
    except VaultError:
        return []


def known_keys(row: Keystore) -> list[files.PrivateKey]:
    """Keys that are here already, of which an authority's answer may be: the renewal's, and the one in use."""
    known = _stored_keys(row)
    with suppress(VaultError):
        return [row.next_key(), *known] if row.next_private_key else known
    return known


class SubjectFields(forms.Form):
    subject = forms.CharField(
        max_length=1024, required=False, help_text=gettext_lazy("Such as CN=gateway.example,O=Acme,C=DE"),
        widget=forms.TextInput(attrs={"class": "mono", "spellcheck": "false"}),
    )  # fmt: skip
    names = LinesField(
        check=issuing.general_name,
        label=gettext_lazy("Alternative names"),
        placeholder="dns:gateway.example",
        help_text=gettext_lazy(
            "One a line: dns:…, ip:…, email:…, uri:…. Servers are known by these, and not by the subject."
        ),
    )

    def clean_subject(self) -> str:
        text: str = self.cleaned_data["subject"].strip()
        if text:
            try:
                x509_name(text)
            except ValueError as error:
                raise ValidationError(English(error)) from error
        return text

    def clean_names(self) -> list[str]:
        names: list[str] = self.cleaned_data["names"]
        if not names and not self.cleaned_data.get("subject") and "subject" not in self.errors:
            raise ValidationError(gettext("Give a subject or an alternative name."))
        return names


class GenerateForm(SubjectFields, NounForm):
    """A keystore whose key is made here. Until an authority has signed for it, its certificate signs itself."""

    lede = gettext_lazy(
        "The key is made here, sealed, and never leaves. Its certificate signs itself until there is another one."
    )

    adding = gettext_lazy("Make a key here")

    kind = forms.ChoiceField(choices=KINDS, label=gettext_lazy("Key"))
    days = forms.IntegerField(
        min_value=1,
        max_value=issuing.MAX_DAYS,
        initial=90,
        label=gettext_lazy("Valid for, days"),
        help_text=gettext_lazy(
            "Of the certificate that signs itself: for trials, or until the authority has answered."
        ),
    )

    class Meta:
        model = Keystore
        fields = ["name", "description"]

    groups = [
        (gettext_lazy("Certificate"), ["subject", "names"], False),
        (gettext_lazy("Key and validity"), ["kind", "days"], False),
    ]

    def fill(self) -> None:
        data = self.cleaned_data
        if self.errors:  # nothing is made that cannot be saved
            return
        key = issuing.new_key(KeyKind(data["kind"]))
        now = timezone.now().timestamp()
        self.instance.set_pair((issuing.self_signed(key, data["subject"], data["names"], data["days"], now),), key)


class AskForm(SubjectFields):
    """What a renewal asks for."""

    kind = forms.ChoiceField(choices=[*KINDS, SAME_KEY], label=gettext_lazy("Key"))

    def ask(self, row: Keystore) -> None:
        """Raises ValidationError."""
        data = self.cleaned_data
        try:
            key = row.key() if data["kind"] == SAME_KEY[0] else issuing.new_key(KeyKind(data["kind"]))
            row.ask(key, issuing.request(key, data["subject"], data["names"]))
        except VaultError as error:
            raise ValidationError({"kind": _NO_KEY}) from error


class AnswerForm(PairFields):
    """The certificate that is to take over: the authority's answer, or one with its own key; and when."""

    at = MomentField(
        label=gettext_lazy("Take over at"),
        help_text=gettext_lazy("Empty: when somebody says so. Until then nodes show the present certificate."),
    )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not (data.get("certificate") or data.get("private_key")) and not self.errors:
            self.add_error("certificate", gettext("Choose a file, or paste its text."))
        return data

    def clean_at(self) -> Any:
        at = self.cleaned_data["at"]
        if at is not None and at <= timezone.now():
            raise ValidationError(gettext("That time is over. Leave it empty, and let it take over by hand."))
        return at

    def answer(self, row: Keystore) -> None:
        """Raises ValidationError."""
        row.set_next(*read_pair(self.cleaned_data, *known_keys(row)), self.cleaned_data.get("at"))
