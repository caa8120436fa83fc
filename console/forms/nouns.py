"""Forms of the plain nouns: nodes, groups, users, ACLs, services, APIs, endpoints, mapping rules."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext, gettext_lazy

from console.forms.choosing import NamedChoiceField
from console.forms.fields import LinesField, NounForm, PortsField
from gateway.core import paths
from gateway.models import API, Endpoint, EndpointIdentity, Node, Service
from gateway.models.services import IDENTITY_HEADERS, METHODS, Builtin
from identity.core.names import from_text
from identity.models import ACL, Group, MappingRule, TrustedCertificate, User
from identity.models.users import DEFAULT


class NodeForm(NounForm):
    class Meta:
        model = Node
        fields = ["name", "role", "description"]


class GroupForm(NounForm):
    class Meta:
        model = Group
        fields = ["name", "description"]


class UserForm(NounForm):
    password = forms.CharField(
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=gettext_lazy("Empty keeps what is stored. Certificates need none."),
    )
    password_again = forms.CharField(
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        label=gettext_lazy("Password again"),
    )
    remove_password = forms.BooleanField(
        required=False, help_text=gettext_lazy("The user can then log in by certificate alone.")
    )
    ports = PortsField(
        label=gettext_lazy("Usable at"),
        help_text=gettext_lazy(
            "None chosen: at every port. Otherwise at these alone, by certificate or password. An internal port "
            "counts by its own name."
        ),
    )
    shown_at = {"password_hash": "password"}
    groups = [
        (gettext_lazy("Password"), ["password", "password_again", "remove_password"], True),
        (gettext_lazy("Limit to ports"), ["ports"], True),
    ]

    class Meta:
        model = User
        fields = ["name", "enabled", "groups", "ports", "description"]
        widgets = {"groups": forms.CheckboxSelectMultiple}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["groups"].queryset = Group.objects.assignable()  # type: ignore[attr-defined]
        self.fields["groups"].help_text = gettext("Every user is a member of Everybody besides.")
        if not self.instance.password_hash:
            del self.fields["remove_password"]
        if self.instance.name == DEFAULT:
            for name in ("enabled", "groups", "ports", "password", "password_again"):
                del self.fields[name]
        if self.instance.predefined:
            self.fields["name"].disabled = True
            self.fields["name"].help_text = gettext("Predefined: it keeps its name.")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("password", "") != data.get("password_again", ""):
            self.add_error("password_again", gettext("The two passwords differ; type the same twice."))
        if data.get("password") and data.get("remove_password"):
            self.add_error("remove_password", gettext("Give a new password or remove it, not both."))
        return data

    def fill(self) -> None:
        if self.cleaned_data.get("remove_password"):
            self.instance.set_password("")
        elif self.cleaned_data.get("password") and not self.errors:
            self.instance.name = self.cleaned_data.get("name", self.instance.name)
            self.instance.set_password(self.cleaned_data["password"])


class ACLForm(NounForm):
    """One row a group, one of three choices in each."""

    class Meta:
        model = ACL
        fields = ["name", "description"]

    CHOICES = [
        ("allowed", gettext_lazy("allowed")),
        ("denied", gettext_lazy("denied")),
        ("", gettext_lazy("not mentioned")),
    ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        adding = self.instance._state.adding
        allowed = set() if adding else {group.pk for group in self.instance.allowed.all()}
        denied = set() if adding else {group.pk for group in self.instance.denied.all()}
        self._groups = {f"group_{group.pk.hex}": group for group in Group.objects.all()}
        for name, group in self._groups.items():
            initial = "allowed" if group.pk in allowed else "denied" if group.pk in denied else ""
            self.fields[name] = forms.ChoiceField(
                choices=self.CHOICES,
                required=False,
                label=group.name,
                initial=initial,
                widget=forms.RadioSelect(attrs={"class": "inline"}),
                help_text=group.description,
                disabled=self.instance.predefined,
            )
        self.groups = [(gettext("Groups"), list(self._groups), False)]

    def matrix(self) -> list[dict[str, Any]]:
        """For the template: each group with its field's name, what is chosen of the three, and what is wrong with it.

        The template writes the radio buttons itself, of plain values: of 200 groups the widgets' templates alone take
        100 ms, and what a bound field looks up for each of 600 buttons another 40.
        """
        buttons = [(f"_{number}", value, str(label)) for number, (value, label) in enumerate(self.CHOICES)]
        found = []
        for name, group in self._groups.items():
            field, chosen = self[name], self[name].value() or ""
            found.append(
                {
                    "group": group.name,
                    "description": group.description,
                    "name": field.html_name,
                    "disabled": field.field.disabled,
                    "errors": self.errors.get(name),
                    "buttons": [
                        (f"{field.auto_id}{end}", value, label, value == chosen) for end, value, label in buttons
                    ],
                }
            )
        return found

    def _save_m2m(self) -> None:
        super()._save_m2m()  # type: ignore[misc]
        if self.instance.predefined:
            return
        chosen = {"allowed": [], "denied": [], "": []}  # type: dict[str, list[Group]]
        for name, group in self._groups.items():
            chosen[self.cleaned_data.get(name) or ""].append(group)
        self.instance.denied.remove(*[g for g in self.instance.denied.all() if g not in chosen["denied"]])
        self.instance.allowed.set(chosen["allowed"])
        self.instance.denied.set(chosen["denied"])


def _checkboxes(names: tuple[str, ...], **kwargs: Any) -> forms.MultipleChoiceField:
    return forms.MultipleChoiceField(
        choices=[(name, name) for name in names], required=False, widget=forms.CheckboxSelectMultiple, **kwargs
    )


HEADER_WORDS = {
    "client-cert": gettext_lazy("client-cert — Client-Cert: :MIIB…: (RFC 9440)"),
    "xfcc": gettext_lazy('xfcc — X-Forwarded-Client-Cert: Hash=…;Subject="CN=alice"'),
    "user": gettext_lazy("user — X-Forwarded-User: alice, X-Forwarded-Groups: Everybody,Partners"),
    "jwt": gettext_lazy("jwt — Postern-Identity: a signed token (needs POSTERN_JWT_KEYSTORE)"),
}


class ServiceForm(NounForm):
    methods = _checkboxes(METHODS, help_text=gettext_lazy("None chosen: every method."))
    identity_headers = forms.MultipleChoiceField(
        choices=[(name, HEADER_WORDS[name]) for name in IDENTITY_HEADERS],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("What the backend is told of whom the request runs as."),
    )
    trailers = LinesField(help_text=gettext_lazy("Trailer fields that are let through, one a line."))
    groups = [
        (gettext_lazy("What runs"), ["builtin", "backend", "timeout"], False),
        (
            gettext_lazy("Who may, and what the backend learns"),
            ["execute_acl", "identity_headers", "forward_authorization"],
            False,
        ),
        (gettext_lazy("More"), ["methods", "trailers", "description"], True),
    ]

    class Meta:
        model = Service
        fields = ["name", "node", "path", "builtin", "backend", "timeout", "execute_acl", "identity_headers",
                  "forward_authorization", "methods", "trailers", "description"]  # fmt: skip
        field_classes = {"node": NamedChoiceField, "execute_acl": NamedChoiceField}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _default_acl(self)
        self.fields["builtin"].choices = [("", gettext("none: the backend below")), *Builtin.choices]  # type: ignore[attr-defined]


def _default_acl(form: NounForm) -> None:
    form.fields["execute_acl"].empty_label = gettext("Default: every user but Default")  # type: ignore[attr-defined]


class APIForm(NounForm):
    methods = _checkboxes(METHODS, help_text=gettext_lazy("None chosen: every method."))
    groups = [(gettext_lazy("More"), ["methods", "description"], True)]

    class Meta:
        model = API
        fields = ["name", "node", "path", "endpoint", "execute_acl", "methods", "description"]
        field_classes = {"node": NamedChoiceField, "endpoint": NamedChoiceField, "execute_acl": NamedChoiceField}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["node"].queryset = Node.objects.exclude(role="internal")  # type: ignore[attr-defined]
        _default_acl(self)
        if not self.instance._state.adding:
            endpoint = self.instance.endpoint
            result = paths.rebase(self.instance.path + "/7", self.instance.path, endpoint.parsed_url().base)
            self.fields["endpoint"].help_text = gettext("A call of {path}/7 arrives there as {result}").format(
                path=self.instance.path, result=result
            )


class EndpointForm(NounForm):
    identity = forms.ChoiceField(
        choices=[
            (
                "",
                gettext_lazy(
                    "As the URL has it: caller for reverse://; for https:// the keystore's certificate, else nobody"
                ),
            ),
            *EndpointIdentity.choices,
        ],
        required=False,
        widget=forms.RadioSelect,
        help_text=gettext_lazy("Whom the far side sees."),
    )
    new_password = forms.CharField(
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        label=gettext_lazy("Password"),
        help_text=gettext_lazy("Empty keeps what is stored. It is sealed, and never shown again."),
    )
    groups = [
        (gettext_lazy("As whom"), ["identity", "keystore", "username", "new_password"], False),
        (gettext_lazy("More"), ["truststore", "forward_authorization", "timeout", "description"], True),
    ]
    shown_at = {"password": "new_password", "registration_port": "url"}

    class Meta:
        model = Endpoint
        fields = ["name", "url", "identity", "keystore", "username", "truststore", "forward_authorization", "timeout",
                  "description"]  # fmt: skip
        field_classes = {"keystore": NamedChoiceField, "truststore": NamedChoiceField}
        help_texts = {
            "url": gettext_lazy(
                "https://host:port/path, or reverse://REGISTRATION-PORT/path. A path replaces the API's own."
            )
        }

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        where = self.instance.keeps_password_from(data.get("url", ""))
        if where and data.get("username") and not data.get("new_password"):
            self.add_error(
                "new_password",
                gettext("The stored one was given for {where}: give it again to send it elsewhere.").format(
                    where=where
                ),
            )
        return data

    def fill(self) -> None:
        if self.cleaned_data.get("new_password"):
            self.instance.set_password(self.cleaned_data["new_password"])
        elif not self.cleaned_data.get("username"):
            self.instance.password = b""


class MappingRuleForm(NounForm):
    issuer = forms.ChoiceField(
        required=False,
        help_text=gettext_lazy("An authority of a truststore, meant by its key: another of the same name is not it."),
    )
    subject = LinesField(
        rows=4,
        placeholder="O = Partner One\nC = DE",
        help_text=gettext_lazy("Kind = value, one a line. A kind that is named must have exactly the named values."),
    )
    user_from = forms.ChoiceField(
        choices=[("", gettext_lazy("the user above")), *MappingRule._meta.get_field("user_from").choices],  # type: ignore[misc]
        required=False,
        label=gettext_lazy("Or the user that the certificate names by its"),
    )
    ports = PortsField(
        label=gettext_lazy("Counts at"),
        help_text=gettext_lazy("None chosen: at every port. Elsewhere the rule does not match."),
    )
    groups = [
        (
            gettext_lazy("Certificates that match: each condition that is given must hold"),
            ["issuer", "subject", "san"],
            False,
        ),
        (gettext_lazy("Run as"), ["user", "user_from"], False),
        (gettext_lazy("Limit to ports"), ["ports"], True),
    ]

    class Meta:
        model = MappingRule
        fields = ["name", "enabled", "priority", "issuer", "subject", "san", "user", "user_from", "ports"]
        labels = {"san": gettext_lazy("Alternative name (SAN)")}
        field_classes = {"user": NamedChoiceField}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["user"].queryset = User.objects.mappable()  # type: ignore[attr-defined]
        self.fields["user"].empty_label = gettext("nobody by name")  # type: ignore[attr-defined]
        self.fields["issuer"].choices = [("", gettext("any authority that the port believes")), *self._authorities()]  # type: ignore[attr-defined]
        if not self.instance._state.adding:
            self.initial["subject"] = [f"{k} = {v}" for k, values in self.instance.subject.items() for v in values]

    def _authorities(self) -> list[tuple[str, str]]:
        """The stored authorities; the rule's own in its own spelling, so that saving it changes nothing."""
        own = from_text(self.instance.issuer) if self.instance.issuer else None
        choices: dict[str, str] = {}
        for row in TrustedCertificate.objects.all():
            name = row.certificate.subject
            value = self.instance.issuer if name == own else row.certificate.parsed.subject.rfc4514_string()
            choices.setdefault(value, name.text)
        if self.instance.issuer:
            choices.setdefault(self.instance.issuer, self.instance.issuer)
        return sorted(choices.items(), key=lambda choice: choice[1])

    def clean_subject(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for number, line in enumerate(self.cleaned_data["subject"], 1):
            kind, separator, value = line.partition("=")
            if not separator or not kind.strip() or not value.strip():
                raise ValidationError(gettext("Line {number}: write it like O = Partner One.").format(number=number))
            found.setdefault(kind.strip(), []).append(value.strip())
        return found
