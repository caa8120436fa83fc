"""Ports: a form for each type, so that no field is shown that would not speak; and the pair as one step."""

from dataclasses import fields as limit_fields
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction

from console.forms.fields import LinesField, NounForm
from gateway.core.limits import LimitError, Limits
from gateway.models import ClientAuth, Dial, Node, Port, PortType, Registration, Role
from gateway.models.ports import ROLE_OF_TYPE

TLS = ["tls_keystore", "tls_truststore", "client_auth"]
LIMITS = [field.name for field in limit_fields(Limits)]
FIELDS_OF = {
    PortType.REGULAR: [*TLS, "accept_basic"],
    PortType.EXTERNAL: ["registration_port", *TLS, "accept_basic", "authenticate", "wait"],
    PortType.REGISTRATION: ["tls_keystore", "tls_truststore"],
    PortType.INTERNAL: ["tls_keystore", "tls_truststore", "tls_server_name", "client_auth", "client_truststore",
                        "accept_basic", "connections_min", "connections_spare", "connections_max"],
}  # fmt: skip


class PortForm(NounForm):
    """A port of one type; the type is set once, when it is added."""

    service_default = forms.ChoiceField(
        choices=[("deny", "Deny what is not listed"), ("allow", "Allow what is not denied")],
        widget=forms.RadioSelect, label="Services", initial="deny",
    )  # fmt: skip
    service_allow = LinesField(
        label="Allowed", help_text="Paths (with what lies below) or names of services, one a line."
    )
    service_deny = LinesField(label="Denied", help_text="Denied beats allowed.")
    ip_default = forms.ChoiceField(
        choices=[("allow", "Allow addresses that are not denied"), ("deny", "Deny addresses that are not allowed")],
        widget=forms.RadioSelect, label="Addresses", initial="allow",
    )  # fmt: skip
    ip_allow = LinesField(label="Allowed networks", help_text="10.0.0.0/8, 2001:db8::/32 or one address, one a line.")
    ip_deny = LinesField(label="Denied networks", help_text="Denied beats allowed.")
    trusted_proxies = LinesField(help_text="Networks whose X-Forwarded-For is believed, one a line.")
    connect = LinesField(
        label="Dials", help_text="ADDRESS as REGISTRATION, one a line: edge.example:8444 as inside-at-reg",
        required=True,
    )  # fmt: skip
    shown_at = {"service_access": "service_allow", "ip_access": "ip_allow"}

    class Meta:
        model = Port
        fields = ["name", "node", "enabled", "bind", "registration_port", "tls_keystore", "tls_truststore",
                  "tls_server_name", "client_auth", "client_truststore", "accept_basic", "authenticate", "wait",
                  "connections_min", "connections_spare", "connections_max", "trusted_proxies", "explain",
                  "description"]  # fmt: skip
        widgets = {"client_auth": forms.RadioSelect}

    def __init__(self, *args: Any, type: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.type = PortType(type)
        self.instance.type = self.type
        self._only_fields_of_type()
        self._limit_fields()
        nodes = Node.objects.filter(role__in=[role.value for role in ROLE_OF_TYPE[self.type]])
        if "node" in self.fields:
            self.fields["node"].queryset = nodes  # type: ignore[attr-defined]
        if "registration_port" in self.fields:
            self.fields["registration_port"].queryset = Port.objects.of_type(PortType.REGISTRATION)  # type: ignore[attr-defined]
        if "accept_basic" in self.fields:
            self.fields["accept_basic"].widget.choices = [
                ("unknown", "as client_auth has it"), ("true", "yes"), ("false", "no"),
            ]  # type: ignore[attr-defined]  # fmt: skip
        self._show_stored()
        self.groups = self._grouping()

    def _only_fields_of_type(self) -> None:
        speaks = set(FIELDS_OF[self.type])
        every = {name for names in FIELDS_OF.values() for name in names}
        for name in every - speaks:
            self.fields.pop(name, None)
        if self.type == PortType.INTERNAL:
            del self.fields["bind"]
            self.fields["tls_keystore"].help_text = "The certificate that this node registers with."
        else:
            del self.fields["connect"]
            self.fields["bind"].required = True
        if self.type == PortType.REGISTRATION:
            for name in ("service_default", "service_allow", "service_deny", "explain", "trusted_proxies"):
                del self.fields[name]
        if self.type in (PortType.REGISTRATION, PortType.INTERNAL):
            self.fields["tls_keystore"].required = self.fields["tls_truststore"].required = True
        if self.type == PortType.EXTERNAL:
            self.fields["registration_port"].required = True

    def _limit_fields(self) -> None:
        for limit in limit_fields(Limits):
            unit = "seconds" if limit.name.endswith("_timeout") else "bytes" if limit.name.endswith("_bytes") else ""
            default = f"{limit.default:g}" if limit.default else "no limit"
            self.fields[f"limit_{limit.name}"] = forms.FloatField(
                required=False,
                label=limit.name.replace("_", " "),
                initial=(self.instance.limits or {}).get(limit.name),
                help_text=f"{unit}; default {default}".lstrip("; "),
                widget=forms.NumberInput(attrs={"placeholder": f"{limit.default:g}", "step": "any"}),
            )

    def _show_stored(self) -> None:
        if self.instance._state.adding:
            return
        services, addresses = self.instance.service_access, self.instance.ip_access
        for prefix, access in (("service", services), ("ip", addresses)):
            for key in ("default", "allow", "deny"):
                self.initial[f"{prefix}_{key}"] = access[key]
        self.initial["connect"] = [f"{d.address} as {d.registration.name}" for d in self.instance.connect.all()]

    def _grouping(self) -> list[tuple[str, list[str], bool]]:
        return [
            ("TLS and who may call", [*FIELDS_OF[self.type][:9], "connect"] if self.type == PortType.INTERNAL
             else FIELDS_OF[self.type], False),
            ("Services that it shows", ["service_default", "service_allow", "service_deny"], False),
            ("Addresses that may call", ["ip_default", "ip_allow", "ip_deny", "trusted_proxies"], True),
            ("More", ["explain", "description"], True),
            ("Limits", [f"limit_{name}" for name in LIMITS], True),
        ]  # fmt: skip

    def clean_connect(self) -> list[tuple[str, Registration]]:
        found = []
        for number, line in enumerate(self.cleaned_data["connect"], 1):
            address, separator, name = line.partition(" as ")
            registration = Registration.objects.filter(name=name.strip()).first()
            if not separator:
                raise ValidationError(f"Line {number}: write it like edge.example:8444 as inside-at-reg.")
            if registration is None:
                raise ValidationError(f"Line {number}: there is no registration {name.strip()!r}.")
            found.append((address.strip(), registration))
        return found

    def fill(self) -> None:
        data, port = self.cleaned_data, self.instance
        if self.type == PortType.REGISTRATION:
            port.client_auth = ClientAuth.REQUIRE
        if "service_default" in self.fields:
            port.service_access = {key: data.get(f"service_{key}") or [] for key in ("allow", "deny")}
            port.service_access["default"] = data.get("service_default") or "deny"
        port.ip_access = {key: data.get(f"ip_{key}") or [] for key in ("allow", "deny")}
        port.ip_access["default"] = data.get("ip_default") or "allow"
        given = {name: data.get(f"limit_{name}") for name in LIMITS}
        try:
            port.limits = Limits.of({name: value for name, value in given.items() if value is not None}).overrides()
        except LimitError as error:
            self.add_error(f"limit_{error.field}", str(error).partition(": ")[2])

    def _save_m2m(self) -> None:
        super()._save_m2m()  # type: ignore[misc]
        if "connect" not in self.fields:
            return
        wanted = set(self.cleaned_data["connect"])
        stored = {(dial.address, dial.registration): dial for dial in self.instance.connect.all()}
        for key in stored.keys() - wanted:
            stored[key].delete()
        for address, registration in wanted - stored.keys():
            Dial(port=self.instance, address=address, registration=registration).save()


class PairForm(forms.Form):
    """An edge's external and registration port, configured as one step: both, or neither."""

    node = forms.ModelChoiceField(queryset=Node.objects.filter(role=Role.EDGE), label="Edge node")

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        self.external = PortForm(data, type=PortType.EXTERNAL, prefix="external")
        self.registration = PortForm(data, type=PortType.REGISTRATION, prefix="registration")
        for form in (self.external, self.registration):
            del form.fields["node"]
        # It does not exist yet; it is the other half of this form.
        del self.external.fields["registration_port"]

    def is_valid(self) -> bool:
        valid = super().is_valid()
        if valid:
            self.registration.instance.node = self.external.instance.node = self.cleaned_data["node"]
        # It is not stored yet, but it has its identity already.
        self.external.instance.registration_port = self.registration.instance
        return all([self.registration.is_valid(), self.external.is_valid(), valid])

    def save(self) -> tuple[Port, Port]:
        """Both, or neither. Raises ValidationError."""
        with transaction.atomic():
            registration = self.registration.save()
            self.external.instance.registration_port = registration
            external = self.external.save()
        return external, registration
