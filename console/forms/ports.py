"""Ports: a form for each type, so that no field is shown that would not speak; and the pair as one step."""

from dataclasses import fields as limit_fields
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.text import format_lazy
from django.utils.translation import gettext, gettext_lazy

from console.forms.fields import LinesField, NounForm, check_path
from gateway.core.addresses import join_host_port, parse_bind, parse_network, split_host_port
from gateway.core.limits import LimitError, Limits
from gateway.models import API, ClientAuth, Dial, Node, Port, PortType, Registration, Role, Service
from gateway.models.ports import ROLE_OF_TYPE
from gateway.unconfirmed import SECONDS
from identity.models import Truststore
from identity.models.english import English

Rows = list[str | tuple[str, ...]]

LIMITS = [field.name for field in limit_fields(Limits)]
MAX_DIALS = 32  # rows of one internal port
EVERY_TYPE = ["name", "node", "enabled", "description", "service_default", "service_allow", "service_deny",
              "ip_default", "ip_allow", "ip_deny", "trusted_proxies", "explain", "goes_back"]  # fmt: skip
ASKED_FOR = gettext_lazy(
    "Whose client certificates are believed. The port names these authorities when it asks for a certificate, and "
    "clients with several choose theirs by it."
)
PLAIN_OR_TLS = gettext_lazy(
    "The certificate that the port shows. None: plain HTTP, on which nobody can show a certificate."
)
TLS: Rows = ["tls_keystores", ("tls_min_version", "tls_ciphers")]
# The groups that differ between the types: legend and rows. What a type does not name, it does not show.
GROUPS_OF: dict[PortType, list[tuple[str, Rows]]] = {
    PortType.REGULAR: [
        (gettext_lazy("Where it listens"), ["bind", "tls_keystore"]),
        (gettext_lazy("Who may call"), ["client_auth", "tls_truststore", "accept_basic"]),
        ("TLS", TLS),
    ],
    PortType.EXTERNAL: [
        (gettext_lazy("Where it listens"), ["bind", "tls_keystore"]),
        (gettext_lazy("Where requests go on"), [("registration_port", "wait")]),
        (gettext_lazy("Who may call"), ["client_auth", "tls_truststore", "accept_basic", "authenticate"]),
        ("TLS", TLS),
    ],
    PortType.REGISTRATION: [
        (gettext_lazy("Where it listens"), ["bind", "tls_keystore", "tls_truststore"]),
        ("TLS", TLS),
    ],
    PortType.INTERNAL: [
        (gettext_lazy("The tunnel"), ["tls_keystore", "tls_truststore", "tls_server_name",
                        ("connections_min", "connections_spare", "connections_max")]),
        (gettext_lazy("Whom the edge may hand on"), ["client_auth", "client_truststore", "accept_basic"]),
        ("TLS", TLS[1:]),
    ],
}  # fmt: skip
LEDE = {
    PortType.REGULAR: gettext_lazy("Clients call the node itself here."),
    PortType.EXTERNAL: gettext_lazy(
        "Clients call the edge here. What is no API of the edge goes on through its registration port."
    ),
    PortType.REGISTRATION: gettext_lazy(
        "Internal nodes dial in here, and requests go back to them down the same connection."
    ),
    PortType.INTERNAL: gettext_lazy(
        "The inner end of the tunnel: it dials an edge, and requests come in by that connection."
    ),
}
HELP: dict[PortType, dict[str, str]] = {
    PortType.REGULAR: {
        "tls_keystore": PLAIN_OR_TLS,
        "tls_truststore": ASKED_FOR,
    },
    PortType.EXTERNAL: {
        "tls_keystore": PLAIN_OR_TLS,
        "tls_truststore": ASKED_FOR,
        "registration_port": gettext_lazy("Paths that are no API of the edge are passed through its tunnels."),
        "wait": gettext_lazy("Seconds that a request waits for a free tunnel."),
        "authenticate": gettext_lazy(
            "Map the certificate, or check the password, on the edge too, before anything goes on."
        ),
    },
    PortType.REGISTRATION: {
        "tls_keystore": gettext_lazy("The certificate that the port shows to the nodes that dial in."),
        "tls_truststore": gettext_lazy(
            "Whose certificates nodes must have; each is known by its own, on its registration."
        ),
    },
    PortType.INTERNAL: {
        "tls_keystore": gettext_lazy("The certificate that this node registers with: the one on its registration."),
        "tls_truststore": gettext_lazy("Who must have signed the certificate of the registration port."),
        "tls_server_name": gettext_lazy("The name that the registration port's certificate must have. None: its host."),
        "client_auth": gettext_lazy("Whether callers' certificates are taken when the edge hands them on, and needed."),
        "client_truststore": gettext_lazy("Whose client certificates are believed: this node judges for itself."),
    },
}


def check_service_entry(text: str) -> None:
    """Raises ValueError unless `text` is a path, or the name of a service or API."""
    if text.startswith("/"):
        check_path(text)
    elif not Service.objects.filter(name=text).exists() and not API.objects.filter(name=text).exists():
        raise ValueError(gettext("there is no service or API {text!r}; a path begins with a slash.").format(text=text))


def _flat(rows: Rows) -> set[str]:
    """Names of the fields in `rows`, those that stand in one row among them."""
    return {name for row in rows for name in ((row,) if isinstance(row, str) else row)}


def _goes_back() -> forms.BooleanField:
    return forms.BooleanField(
        required=False,
        label=format_lazy(gettext_lazy("Go back unless I confirm within {seconds} s"), seconds=SECONDS),
        help_text=gettext_lazy("For a change that could cut you off: what was before comes back by itself."),
    )


class PortForm(NounForm):
    """A port of one type; the type is set once, when it is added."""

    service_default = forms.ChoiceField(
        choices=[
            ("deny", gettext_lazy("Deny what is not allowed below")),
            ("allow", gettext_lazy("Allow what is not denied below")),
        ],
        widget=forms.RadioSelect,
        label=gettext_lazy("Services and APIs"),
        initial="deny",
        help_text=gettext_lazy("What this port shows. What is denied is told before anybody is asked who he is."),
    )
    service_allow = LinesField(
        check=check_service_entry,
        label=gettext_lazy("Allowed"),
        help_text=gettext_lazy("Paths (each with what lies below it), or names of services and APIs; one a line."),
        placeholder="/orders\norders:submit",
    )
    service_deny = LinesField(
        check=check_service_entry, label=gettext_lazy("Denied"), help_text=gettext_lazy("Denied beats allowed.")
    )
    ip_default = forms.ChoiceField(
        choices=[
            ("allow", gettext_lazy("Allow addresses that are not denied below")),
            ("deny", gettext_lazy("Deny those not allowed below")),
        ],
        widget=forms.RadioSelect,
        label=gettext_lazy("Callers' addresses"),
        initial="allow",
    )
    ip_allow = LinesField(
        check=parse_network,
        label=gettext_lazy("Allowed networks"),
        help_text=gettext_lazy("One a line."),
        placeholder="10.0.0.0/8\n2001:db8::/32",
    )
    ip_deny = LinesField(
        check=parse_network, label=gettext_lazy("Denied networks"), help_text=gettext_lazy("Denied beats allowed.")
    )
    trusted_proxies = LinesField(
        check=parse_network,
        help_text=gettext_lazy(
            "Networks whose X-Forwarded-For and traceparent are believed, one a line. None: nobody's."
        ),
    )
    goes_back = _goes_back()
    shown_at = {"service_access": "service_allow", "ip_access": "ip_allow"}

    class Meta:
        model = Port
        fields = ["name", "node", "enabled", "bind", "registration_port", "tls_keystore", "tls_truststore",
                  "tls_server_name", "tls_keystores", "tls_min_version", "tls_ciphers", "client_auth",
                  "client_truststore", "accept_basic", "authenticate", "wait", "connections_min", "connections_spare",
                  "connections_max", "trusted_proxies", "explain", "description"]  # fmt: skip
        widgets = {
            "client_auth": forms.RadioSelect,
            "accept_basic": forms.NullBooleanSelect,
            "tls_keystores": forms.CheckboxSelectMultiple,
        }
        labels = {
            "connections_min": gettext_lazy("Connections, min"),
            "connections_spare": gettext_lazy("Spare"),
            "connections_max": gettext_lazy("Max"),
        }
        help_texts = {
            "accept_basic": gettext_lazy("Whether callers may come by user and password."),
            "tls_ciphers": gettext_lazy("CBC is for clients such as Java 7. Of TLS 1.3 all are strong."),
        }

    def __init__(self, *args: Any, type: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.type = PortType(type)
        self.instance.type = self.type
        if "accept_basic" in self.fields:
            self.fields["accept_basic"].widget.choices = [  # type: ignore[attr-defined]
                ("unknown", gettext("unset: yes with password and request, no with require")),
                ("true", gettext_lazy("yes")),
                ("false", gettext_lazy("no")),
            ]
        self.lede = LEDE[self.type]
        self._keep_fields_of_type()
        self._limit_fields()
        if self.type == PortType.INTERNAL:
            self._dial_fields()
        if "node" in self.fields:
            roles = [role.value for role in ROLE_OF_TYPE[self.type]]
            self.fields["node"].queryset = Node.objects.filter(role__in=roles)  # type: ignore[attr-defined]
        if "registration_port" in self.fields:
            self.fields["registration_port"].queryset = Port.objects.of_type(PortType.REGISTRATION)  # type: ignore[attr-defined]
        self._show_stored()
        self.groups = self._grouping()

    def _keep_fields_of_type(self) -> None:
        kept = set(EVERY_TYPE).union(*(_flat(rows) for _, rows in GROUPS_OF[self.type]))
        if self.type == PortType.REGISTRATION:
            # Nothing but registrations comes in here, each known by its certificate.
            kept -= {"service_default", "service_allow", "service_deny", "explain", "trusted_proxies"}
        for name in self.fields.keys() - kept:
            del self.fields[name]
        for name, words in HELP[self.type].items():
            self.fields[name].help_text = words
        if self.type in (PortType.REGISTRATION, PortType.INTERNAL):
            self.fields["tls_keystore"].required = self.fields["tls_truststore"].required = True
        for name in {"bind", "registration_port"} & self.fields.keys():
            self.fields[name].required = True
        for name in {"tls_min_version", "tls_ciphers"} & self.fields.keys():
            self.fields[name].required = False  # a script that says nothing of them means the defaults
        for name in {"tls_keystore", "tls_truststore", "client_truststore", "registration_port"} & self.fields.keys():
            words = gettext("choose one") if self.fields[name].required else gettext("none")
            self.fields[name].empty_label = words  # type: ignore[attr-defined]

    def _limit_fields(self) -> None:
        for limit in limit_fields(Limits):
            unit = (
                gettext("Seconds")
                if limit.name.endswith("_timeout")
                else gettext("Bytes")
                if limit.name.endswith("_bytes")
                else gettext("Count")
            )
            default = f"{limit.default:.10g}" if limit.default else gettext("no limit")
            self.fields[f"limit_{limit.name}"] = forms.FloatField(
                required=False,
                label=limit.name.replace("_", " ").removesuffix(" bytes").capitalize(),
                initial=(self.instance.limits or {}).get(limit.name),
                help_text=unit,
                widget=forms.NumberInput(attrs={"placeholder": default, "step": "any"}),
            )

    def _show_stored(self) -> None:
        if self.instance._state.adding:
            return
        services, addresses = self.instance.service_access, self.instance.ip_access
        for prefix, access in (("service", services), ("ip", addresses)):
            for key in ("default", "allow", "deny"):
                self.initial[f"{prefix}_{key}"] = access[key]

    def _dial_fields(self) -> None:
        """A row for each place that the port dials, and two empty ones for more."""
        stored = [] if self.instance._state.adding else list(self.instance.connect.select_related("registration"))
        sent = sum(self.add_prefix(f"dial_address_{number}") in self.data for number in range(MAX_DIALS))
        registrations = Registration.objects.select_related("port", "node")
        self.dial_rows = [
            (f"dial_address_{number}", f"dial_registration_{number}")
            for number in range(max(sent, min(len(stored) + 2, MAX_DIALS)))
        ]
        # Read once for both, and once for all rows.
        stores = [(row.pk, str(row)) for row in Truststore.objects.all()]
        for name in ("tls_truststore", "client_truststore"):
            field: Any = self.fields[name]
            field.choices = [*([("", field.empty_label)] if field.empty_label is not None else []), *stores]
        choices = [("", gettext("choose one")), *((row.pk, str(row)) for row in registrations)]
        for number, (address, registration) in enumerate(self.dial_rows):
            dial = stored[number] if number < len(stored) else None
            self.fields[address] = forms.CharField(
                required=False,
                max_length=255,
                label=gettext("Address of the registration port") if number == 0 else gettext("Another address"),
                initial=dial.address if dial else None,
                widget=forms.TextInput(attrs={"placeholder": "edge.example:8444", "autocomplete": "off"}),
            )
            self.fields[registration] = forms.ModelChoiceField(
                registrations,
                required=False,
                label=gettext("Registers as"),
                initial=dial.registration_id if dial else None,
                empty_label=gettext("choose one"),
            )
            self.fields[registration].choices = choices  # type: ignore[attr-defined]

    def _grouping(self) -> list[tuple[str, Rows, bool]]:
        limits: Rows = [tuple(f"limit_{name}" for name in LIMITS[i : i + 3]) for i in range(0, len(LIMITS), 3)]
        dials: list[tuple[str, Rows]] = []
        if self.type == PortType.INTERNAL:
            dials = [(gettext("Where it dials"), [*self.dial_rows])]
        return [
            *((legend, rows, False) for legend, rows in [*dials, *GROUPS_OF[self.type]]),
            (gettext("What it shows"), ["service_default", ("service_allow", "service_deny")], False),
            (gettext("Addresses that may call"), ["ip_default", ("ip_allow", "ip_deny"), "trusted_proxies"], True),
            (gettext("Limits"), limits, True),
            (gettext("More"), ["explain", "description"], True),
            ("", ["goes_back"], False),
        ]

    def clean_bind(self) -> str:
        """In one spelling, so that the model compares addresses and not texts."""
        try:
            return join_host_port(*parse_bind(self.cleaned_data["bind"]))
        except ValueError as error:
            raise ValidationError(English(error)) from error

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if self.type == PortType.INTERNAL:
            data["connect"] = self._dials(data)
            if not data["connect"] and not self.errors:
                self.add_error(self.dial_rows[0][0], gettext("An internal port dials somewhere; give an address."))
        if data.get("tls_keystores"):
            self.instance.tls_keystore = data.get("tls_keystore")
            try:
                self.instance.check_keystores(data["tls_keystores"])
            except ValueError as error:
                self.add_error("tls_keystores", str(error))
        return data

    def _dials(self, data: dict[str, Any]) -> list[tuple[str, Registration]]:
        found = []
        for address_field, registration_field in self.dial_rows:
            address, registration = (data.get(address_field) or "").strip(), data.get(registration_field)
            if address and registration is None and registration_field not in self.errors:
                self.add_error(
                    registration_field,
                    gettext("As what does it register at {address}? Choose a registration.").format(address=address),
                )
            elif registration is not None and not address:
                self.add_error(
                    address_field,
                    gettext("Where is {registration} reached? Give host and port number.").format(
                        registration=registration
                    ),
                )
            elif address and registration is not None:
                try:
                    split_host_port(address)
                except ValueError as error:
                    self.add_error(address_field, English(error))
                if (address, registration) in found:
                    self.add_error(address_field, gettext("The port dials there already, in a row above."))
                found.append((address, registration))
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
            self.add_error(f"limit_{error.field}", English(str(error).partition(": ")[2]))

    def _save_m2m(self) -> None:
        super()._save_m2m()  # type: ignore[misc]
        if self.type != PortType.INTERNAL:
            return
        wanted = set(self.cleaned_data["connect"])
        stored = {(dial.address, dial.registration): dial for dial in self.instance.connect.all()}
        for key in stored.keys() - wanted:
            stored[key].delete()
        for address, registration in wanted - stored.keys():
            Dial(port=self.instance, address=address, registration=registration).save()


class PairForm(forms.Form):
    """An edge's external and registration port, configured as one step: both, or neither."""

    node = forms.ModelChoiceField(
        queryset=Node.objects.filter(role=Role.EDGE),
        label=gettext_lazy("Edge node"),
        empty_label=gettext_lazy("choose one"),
    )
    goes_back = _goes_back()

    def __init__(self, data: Any = None, *, node: str = "") -> None:
        """`node`: the key of the one that is proposed."""
        super().__init__(data, initial={"node": node})
        self.external = PortForm(data, type=PortType.EXTERNAL, prefix="external")
        self.registration = PortForm(data, type=PortType.REGISTRATION, prefix="registration")
        for form in (self.external, self.registration):
            del form.fields["node"], form.fields["goes_back"]
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
