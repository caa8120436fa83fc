"""Truststores, keystores, registrations: nouns that hold certificates."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from console.forms.fields import NounForm, PathsField, PemField, parse_certificates
from gateway.models import Node, Port, PortType, Registration, Role
from identity.core import certificates
from identity.core.certificates import CertificateError
from identity.core.chains import load_crl
from identity.models import Keystore, Truststore
from identity.models.truststores import RevocationList, TrustedCertificate


class TruststoreForm(NounForm):
    add = PemField(
        required=False,
        label="Add authorities",
        help_text="PEM (one or many) or DER. Intermediates count as anchors too.",
    )
    remove = forms.MultipleChoiceField(
        required=False, widget=forms.CheckboxSelectMultiple, label="Remove", help_text="Chosen ones go when you save."
    )
    add_crl = PemField(
        required=False, limit=certificates.MAX_CRL, label="Add a revocation list", help_text="A CRL in PEM or DER."
    )

    class Meta:
        model = Truststore
        fields = ["name", "revocation", "description"]
        widgets = {"revocation": forms.RadioSelect}
        labels = {"revocation": "When a revocation list has run out"}

    groups = [("Authorities", ["remove", "add"], False), ("Revocation", ["revocation", "add_crl"], True)]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._added: tuple[certificates.Certificate, ...] = ()
        stored = [] if self.instance._state.adding else list(self.instance.certificates.all())
        if stored:
            self.fields["remove"].choices = [  # type: ignore[attr-defined]
                (str(row.pk), f"{row.subject} — until {row.not_after:%Y-%m-%d} (…{row.sha256[-8:]})") for row in stored
            ]
            self.fields["remove"].label = "On file (choose to remove)"
        else:
            del self.fields["remove"]
            self.fields["add"].required = True

    def clean_add(self) -> bytes | None:
        data: bytes | None = self.cleaned_data["add"]
        if data is not None:
            self._added = parse_certificates(data)
            for certificate in self._added:
                if not certificate.is_authority and not certificate.self_issued:
                    raise ValidationError(
                        f"{certificate.title} is no authority: it would be believed itself and nothing it issues. "
                        "Add the authority that issued it."
                    )
        return data

    def clean_add_crl(self) -> bytes | None:
        data: bytes | None = self.cleaned_data["add_crl"]
        if data is None:
            return None
        stored = [] if self.instance._state.adding else [row.certificate for row in self.instance.certificates.all()]
        try:
            der = certificates.crl_from_file(data)
            load_crl(der, [*stored, *self._added])
        except ValueError as error:
            raise ValidationError(str(error)) from error
        return der

    def _save_m2m(self) -> None:
        super()._save_m2m()  # type: ignore[misc]
        store = self.instance
        for row in store.certificates.filter(pk__in=self.cleaned_data.get("remove") or []):
            row.delete()
        known = set(store.certificates.values_list("sha256", flat=True))
        for certificate in self._added:
            if certificate.sha256 not in known:
                known.add(certificate.sha256)
                row = TrustedCertificate(truststore=store)
                row.set_certificate(certificate)
                row.full_clean()
                row.save()
        if der := self.cleaned_data.get("add_crl"):
            crl = RevocationList(truststore=store, der=der)
            crl.clean_fields()
            for older in store.crls.filter(issuer=crl.issuer):
                older.delete()
            crl.full_clean()
            crl.save()


class KeystoreForm(NounForm):
    certificate = PemField(
        required=False, label="Certificate", help_text="PEM or DER; its intermediates may follow it."
    )
    private_key = PemField(required=False, help_text="PEM or DER. It is sealed, and never shown again.")
    pass_phrase = forms.CharField(
        required=False, widget=forms.PasswordInput(attrs={"autocomplete": "off"}), help_text="Of an encrypted key."
    )

    class Meta:
        model = Keystore
        fields = ["name", "description"]

    groups = [("Certificate and key", ["certificate", "private_key", "pass_phrase"], False)]
    shown_at = {"chain": "certificate"}

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if self.instance._state.adding or data.get("certificate") or data.get("private_key"):
            for name in ("certificate", "private_key"):
                if not data.get(name) and name not in self.errors:
                    self.add_error(name, "Certificate and key come together: choose a file, or paste its text.")
        return data

    def fill(self) -> None:
        data = self.cleaned_data
        if not (data.get("certificate") and data.get("private_key")):
            return
        try:
            chain = certificates.from_file(data["certificate"])
        except CertificateError as error:
            raise ValidationError({"certificate": str(error)}) from error
        try:
            key = certificates.key_from_file(data["private_key"], data.get("pass_phrase") or None)
        except CertificateError as error:
            raise ValidationError({"private_key": str(error)}) from error
        self.instance.set_pair(chain, key)


class RegistrationForm(NounForm):
    certificate = PemField(required=False, help_text="The node's certificate: PEM or DER. Only it may register.")
    from_keystore = forms.ModelChoiceField(
        queryset=Keystore.objects.all(), required=False, label="Or that of a keystore",
        help_text="The keystore that the node's internal port shows.",
    )  # fmt: skip
    paths = PathsField(help_text="Paths that the channel may carry, one a line. None: every path.")
    groups = [
        ("The node's certificate", ["certificate", "from_keystore"], False),
        ("What the channel may carry",
         ["paths", "limits_assertions", "may_assert_truststores", "may_assert_groups", "allow_test"], False),
    ]  # fmt: skip
    shown_at = {"sha256": "certificate", "der": "certificate"}

    class Meta:
        model = Registration
        fields = ["name", "port", "node", "enabled", "paths", "limits_assertions", "may_assert_truststores",
                  "may_assert_groups", "allow_test"]  # fmt: skip
        widgets = {
            "may_assert_truststores": forms.CheckboxSelectMultiple,
            "may_assert_groups": forms.CheckboxSelectMultiple,
        }
        help_texts = {
            "may_assert_truststores": "With the limit on: only certificates of these. None chosen: all that are trusted.",
            "may_assert_groups": "With the limit on: only these groups count. None chosen: all but Administrators.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["port"].queryset = Port.objects.of_type(PortType.REGISTRATION)  # type: ignore[attr-defined]
        self.fields["node"].queryset = Node.objects.filter(role=Role.INTERNAL)  # type: ignore[attr-defined]
        if not self.instance._state.adding:
            self.fields[
                "certificate"
            ].help_text = f"On file: {self.instance.subject} (…{self.instance.sha256[-8:]}). Empty keeps it."

    def fill(self) -> None:
        data = self.cleaned_data.get("certificate")
        keystore = self.cleaned_data.get("from_keystore")
        if data and keystore:
            raise ValidationError({"from_keystore": "Give a certificate or a keystore, not both."})
        if data:
            try:
                self.instance.set_certificate(certificates.one_from_file(data))
            except CertificateError as error:
                raise ValidationError({"certificate": str(error)}) from error
        elif keystore:
            self.instance.set_certificate(keystore.certificate)
        elif self.instance._state.adding:
            raise ValidationError(
                {"certificate": "A certificate is needed: choose a file, paste it, or name a keystore."}
            )
