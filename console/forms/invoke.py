"""What a test invoke sends, and as whom."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from gateway.models import Port, PortType
from identity.models import Certificate, Keystore

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
MAX_BODY = 1024 * 1024  # characters


class InvokeForm(forms.Form):
    port = forms.ModelChoiceField(
        queryset=Port.objects.listening().of_type(PortType.EXTERNAL, PortType.REGULAR).select_related("node"),
        to_field_name="name", empty_label=None,
    )  # fmt: skip
    method = forms.ChoiceField(choices=[(method, method) for method in METHODS])
    target = forms.CharField(label="Path", max_length=8192, initial="/", help_text="With its query: /orders/7?x=1")
    credential = forms.ChoiceField(
        label="As", widget=forms.RadioSelect, initial="certificate",
        choices=[("certificate", "a stored certificate"), ("keystore", "a keystore's certificate"),
                 ("password", "user and password"), ("none", "nobody: no credential")],
    )  # fmt: skip
    certificate = forms.ModelChoiceField(
        queryset=Certificate.objects.select_related("user"), required=False, empty_label="choose one",
        help_text="No private key is needed: the node takes it as if the handshake had shown it.",
    )  # fmt: skip
    keystore = forms.ModelChoiceField(queryset=Keystore.objects.all(), required=False, empty_label="choose one")
    username = forms.CharField(required=False, max_length=255)
    password = forms.CharField(
        required=False, max_length=1024, widget=forms.PasswordInput(attrs={"autocomplete": "off"})
    )
    headers = forms.CharField(
        required=False, max_length=32_768, help_text="One a line, Name: value",
        widget=forms.Textarea(attrs={"rows": 2, "class": "mono", "spellcheck": "false"}),
    )  # fmt: skip
    body = forms.CharField(
        required=False, max_length=MAX_BODY, strip=False,
        widget=forms.Textarea(attrs={"rows": 4, "class": "mono", "spellcheck": "false"}),
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["port"].label_from_instance = lambda p: f"{p.name}, on {p.node.name} ({p.type}, {p.client_auth})"  # type: ignore[attr-defined]
        self.fields["certificate"].label_from_instance = (
            lambda c: (  # type: ignore[attr-defined]
                f"{c.name}: {c.subject} (…{c.sha256[-8:]}) → {c.user.name if c.user else 'nobody'}"
            )
        )

    def clean_target(self) -> str:
        target: str = self.cleaned_data["target"]
        if not target.startswith("/") or any(c <= " " or c == "\x7f" for c in target):
            raise ValidationError("A path begins with a slash and has no blanks; write %20 for one.")
        return target

    def clean_headers(self) -> list[list[str]]:
        found = []
        for number, line in enumerate(self.cleaned_data["headers"].splitlines(), 1):
            if not line.strip():
                continue
            name, separator, value = line.partition(":")
            if not separator or not name.strip() or " " in name.strip():
                raise ValidationError(f"Line {number}: write it like Accept: application/json.")
            found.append([name.strip(), value.strip()])
        return found

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        needed = {"certificate": "certificate", "keystore": "keystore", "password": "username"}.get(
            data.get("credential", "")
        )
        if needed and not data.get(needed) and needed not in self.errors:
            self.add_error(needed, "This is what the request is to be sent as; choose one." if needed != "username"
                           else "Give the user's name.")  # fmt: skip
        return data
