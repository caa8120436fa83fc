"""What a test invoke sends, and as whom."""

import re
from itertools import groupby
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext, gettext_lazy

from console.forms.choosing import NamedChoiceField
from console.forms.fields import PemField, read_certificates
from console.invocation import Invocation
from console.kept import SavedTest
from gateway.core.reasons import BY_CODE
from gateway.models import API, ClientAuth, Port, PortType, Service
from identity.core import files
from identity.core.certificates import Certificate as Parsed
from identity.core.certificates import pem_of
from identity.models import Certificate, Keystore
from identity.models.base import name_validator

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
KNOWN_PATHS = 200
MAX_BODY = 1024 * 1024  # characters
MAX_HEADERS = 32 * 1024  # characters
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_FRAMING = ("content-length", "transfer-encoding", "connection")  # follow from the body and from the test itself

# What each kind of credential needs to be given.
NEEDED = {
    "certificate": ("certificate", gettext_lazy("Choose the certificate that the request is to come with.")),
    "keystore": ("keystore", gettext_lazy("Choose the keystore whose certificate the request is to come with.")),
    "pem": ("pem", gettext_lazy("Paste the certificate that the request is to come with, or choose its file.")),
    "password": ("username", gettext_lazy("Give the user's name.")),
}


class InvokeForm(forms.Form):
    """Only configured ports can be chosen: there is no field for an address."""

    port = forms.ModelChoiceField(
        queryset=Port.objects.listening()
        .of_type(PortType.EXTERNAL, PortType.REGULAR)
        .select_related("node")
        .order_by("node__name", "name"),
        to_field_name="name",
        empty_label=None,
    )
    method = forms.ChoiceField(choices=[(method, method) for method in METHODS])
    path = forms.CharField(
        max_length=8192,
        initial="/",
        help_text=gettext_lazy("With its query: /orders/7?x=1"),
        widget=forms.TextInput({"class": "mono", "spellcheck": "false", "autocomplete": "off", "list": "known-paths"}),
    )
    credential = forms.ChoiceField(
        label=gettext_lazy("As"),
        widget=forms.RadioSelect,
        choices=[
            ("certificate", gettext_lazy("a certificate on file")),
            ("keystore", gettext_lazy("a keystore's certificate")),
            ("pem", gettext_lazy("a certificate that I paste")),
            ("password", gettext_lazy("a user with password")),
            ("none", gettext_lazy("nobody: no credential")),
        ],
        initial="certificate",
    )
    certificate = NamedChoiceField(
        queryset=Certificate.objects.select_related("user"),
        required=False,
        empty_label=gettext_lazy("choose one"),
        help_text=gettext_lazy("No private key is needed: the node takes it as if a handshake had shown it."),
    )
    keystore = NamedChoiceField(
        queryset=Keystore.objects.all(),
        required=False,
        empty_label=gettext_lazy("choose one"),
        help_text=gettext_lazy("Its certificate goes with its intermediates, like one on file: its key is not used."),
    )
    pem = PemField(
        required=False,
        label=gettext_lazy("Certificate and what comes with it"),
        help_text=gettext_lazy("It need not be on file. A private key is not needed, and not kept."),
    )
    username = forms.CharField(
        label=gettext_lazy("User"),
        required=False,
        max_length=255,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    password = forms.CharField(
        required=False,
        max_length=1024,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text=gettext_lazy("Sent, and neither kept nor recorded."),
    )
    headers = forms.CharField(
        required=False,
        max_length=MAX_HEADERS,
        help_text=gettext_lazy("One a line, like Accept: application/json"),
        widget=forms.Textarea(attrs={"rows": 3, "class": "mono", "spellcheck": "false"}),
    )
    body = forms.CharField(
        required=False,
        max_length=MAX_BODY,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 5, "class": "mono", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        port, certificate, keystore = (self.fields[name] for name in ("port", "certificate", "keystore"))
        port.choices = _by_node(list(port.queryset))  # type: ignore[attr-defined]
        certificate.label_from_instance = _certificate_label  # type: ignore[attr-defined]
        keystore.label_from_instance = lambda row: f"{row.name}: {row.subject}"  # type: ignore[attr-defined]

    def known_paths(self) -> list[str]:
        """What is offered while a path is typed: those of APIs and services, up to `KNOWN_PATHS`."""
        rows = API.objects.order_by().values_list("path").union(Service.objects.order_by().values_list("path"))
        return [path for (path,) in rows.order_by("path")[:KNOWN_PATHS]]

    def clean_path(self) -> str:
        path: str = self.cleaned_data["path"]
        if not path.startswith("/"):
            raise ValidationError(gettext("A path begins with a slash; hosts cannot be chosen, only ports."))
        if any(c <= " " or c >= "\x7f" for c in path):
            raise ValidationError(gettext("A path has no blanks and no letters beyond ASCII; write %20 for a blank."))
        return path

    def clean_pem(self) -> tuple[Parsed, ...]:
        data = self.cleaned_data["pem"]
        return files.in_order(read_certificates(data).certificates) if data else ()

    def clean_headers(self) -> tuple[tuple[str, str], ...]:
        found: list[tuple[str, str]] = []
        # Not splitlines: it ends lines at characters that a header must not be split by.
        for number, line in enumerate(re.split(r"\r\n|\n|\r", self.cleaned_data["headers"]), 1):
            if line.strip():
                found.append(_header(number, line))
        return tuple(found)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        credential = data.get("credential", "")
        if credential in NEEDED:
            field, words = NEEDED[credential]
            if not data.get(field) and field not in self.errors:
                self.add_error(field, words)
        port = data.get("port")
        if port and credential in ("certificate", "keystore", "pem") and port.client_auth == ClientAuth.PASSWORD:
            self.add_error(
                "credential",
                gettext(
                    "Port {port} never asks for a certificate (client_auth: password), so no caller can show one. "
                    "Choose another credential or another port."
                ).format(port=port),
            )
        return data

    def invocation(self) -> Invocation:
        data = self.cleaned_data
        return Invocation(
            port=data["port"],
            method=data["method"],
            target=data["path"],
            headers=data["headers"],
            body=data["body"],
            credential=data["credential"],
            certificate=data["certificate"],
            keystore=data["keystore"],
            pem=data["pem"],
            username=data["username"],
            password=data["password"],
        )


SECRET_HEADERS = ("authorization", "proxy-authorization", "cookie")


class SavedTestForm(InvokeForm):
    """A test invoke that is kept: with its name, and what is expected to come of it."""

    name = forms.CharField(
        max_length=255, validators=[name_validator], help_text=gettext_lazy("What it is for: partner-one-orders")
    )
    expected_status = forms.IntegerField(min_value=100, max_value=599, initial=200, label=gettext_lazy("Status"))
    expected_user = forms.CharField(
        required=False,
        max_length=255,
        label=gettext_lazy("Runs as"),
        help_text=gettext_lazy("On the last node. Empty: whoever it is."),
    )
    expected_reason = forms.ChoiceField(
        required=False,
        label=gettext_lazy("Reason"),
        choices=[
            ("", gettext_lazy("whichever, or none")),
            *((code, code) for code in sorted(BY_CODE) if code != "client_gone"),
        ],
    )

    def __init__(self, *args: Any, instance: SavedTest | None = None, **kwargs: Any) -> None:
        self.instance = instance or SavedTest()
        self.is_new = instance is None
        kwargs["initial"] = (_stored(instance) if instance else {}) | (kwargs.get("initial") or {})
        super().__init__(*args, **kwargs)
        self.fields["password"].help_text = gettext("Sealed as it is stored, and shown to nobody.") + (
            gettext(" Empty keeps what is stored.") if instance and instance.password else ""
        )

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if SavedTest.objects.filter(name=name).exclude(pk=self.instance.pk).exists():
            raise ValidationError(gettext("There is a test of this name already."))
        return name

    def clean_headers(self) -> tuple[tuple[str, str], ...]:
        found = super().clean_headers()
        for name, _ in found:
            if name.lower() in SECRET_HEADERS:
                raise ValidationError(
                    gettext("{name} is a credential, and would be kept for everybody to read; leave it out.").format(
                        name=name
                    )
                )
        return found

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if data.get("credential") == "password" and not data.get("password"):
            row, port = self.instance, data.get("port")
            if not row.password:
                self.add_error("password", gettext("Give the password that goes with it."))
            elif (port and port.name != row.port) or data.get("username") != row.username:
                self.add_error("password", gettext("The stored one was given for another port or user: give it again."))
        return data

    def fill(self) -> SavedTest:
        """The test as it is to be stored; what belongs to another kind of credential is let go."""
        data, row = self.cleaned_data, self.instance
        row.name, row.port, row.method, row.path = data["name"], data["port"].name, data["method"], data["path"]
        row.headers, row.body = [list(each) for each in data["headers"]], data["body"]
        row.credential = data["credential"]
        chosen = data["certificate"] if row.credential == "certificate" else data["keystore"]
        row.certificate = chosen.name if chosen and row.credential in ("certificate", "keystore") else ""
        row.pem = pem_of(data["pem"]) if row.credential == "pem" else ""
        by_password = row.credential == "password"
        row.username = data["username"] if by_password else ""
        if not by_password or data["password"]:
            row.set_password(data["password"] if by_password else "")
        row.expected_status, row.expected_user = data["expected_status"], data["expected_user"]
        row.expected_reason = data["expected_reason"]
        return row


def _stored(row: SavedTest) -> dict[str, Any]:
    return {
        "name": row.name, "port": row.port, "method": row.method, "path": row.path, "body": row.body,
        "headers": "\n".join(f"{name}: {value}" for name, value in row.headers), "credential": row.credential,
        "certificate": Certificate.objects.filter(name=row.certificate).first()
        if row.credential == "certificate" else None,
        "keystore": Keystore.objects.filter(name=row.certificate).first() if row.credential == "keystore" else None,
        "pem": row.pem, "username": row.username, "expected_status": row.expected_status,
        "expected_user": row.expected_user, "expected_reason": row.expected_reason,
    }  # fmt: skip


def _by_node(ports: list[Port]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Choices in a group for each node; `ports` in the order of their nodes."""
    return [
        (
            node,
            [
                (
                    port.name,
                    gettext("{port} ({type}, certificates: {client_auth})").format(
                        port=port.name, type=port.type, client_auth=port.client_auth
                    ),
                )
                for port in of_node
            ],
        )
        for node, of_node in groupby(ports, key=lambda port: port.node.name)
    ]


def _certificate_label(row: Certificate) -> str:
    return f"{row.name}: {row.subject} (…{row.sha256[-8:]}) → {row.user.name if row.user else 'nobody'}"


def _header(number: int, line: str) -> tuple[str, str]:
    """Raises ValidationError, naming the line."""
    name, separator, value = line.partition(":")
    name, value = name.strip(), value.strip()
    if not separator or not _TOKEN.fullmatch(name):
        raise ValidationError(gettext("Line {number}: write it like Accept: application/json.").format(number=number))
    if name.lower() in _FRAMING:
        raise ValidationError(
            gettext("Line {number}: {name} follows from the body; leave it out.").format(number=number, name=name)
        )
    if any((c < " " and c != "\t") or c == "\x7f" or c > "\xff" for c in value):
        raise ValidationError(
            gettext("Line {number}: {name} has a character that no header can carry.").format(number=number, name=name)
        )
    return name, value
