"""From nothing to the first answer: each step writes what a form would, with defaults that work.

Everything goes through the forms of the nouns: what they refuse is refused here, in their words. The authorities of
a trial sign what is needed and their keys are then let go: nobody, here neither, can make another partner of them.
"""

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.utils.datastructures import MultiValueDict
from django.utils.translation import gettext, gettext_lazy

from console import environment
from console.attention import NodeState
from console.certificate_preview import proposed_name
from console.demo.minting import Minted, Purpose, authority, leaf
from console.forms.certificates import NewCertificateForm
from console.forms.fields import NounForm, PemField, read_certificates
from console.forms.keystores import KeystoreForm
from console.forms.nouns import ACLForm, GroupForm, NodeForm, ServiceForm, UserForm
from console.forms.ports import PairForm, PortForm
from console.forms.stores import RegistrationForm, TruststoreForm
from console.free_ports import free_port
from console.nouns import SINGULAR
from gateway.core.addresses import join_host_port, parse_bind
from gateway.models import Change, Enrolment, Node, Port, PortType, Registration, Role, Service
from gateway.topology.entries import KIND_OF
from identity.core import files
from identity.core.certificates import pem_of
from identity.core.commands import command as command_line
from identity.models import Certificate, Group, Keystore, Truststore, User

TRIAL = "O=Postern trial"
ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened at


@dataclass(frozen=True, slots=True)
class Step:
    """`what` it is for; `told`: what of it is there."""

    key: str
    title: str
    what: str
    told: list[Model]
    form: type[forms.Form] | None = None

    @property
    def done(self) -> bool:
        return bool(self.told)


# --- what each step asks ---


class TrustForm(forms.Form):
    hosts = forms.CharField(
        label=gettext_lazy("Names of the edge"),
        initial="localhost, 127.0.0.1",
        max_length=1000,
        help_text=gettext_lazy(
            "Host names and addresses by which callers and the internal node reach it, with commas between."
        ),
    )
    partners = PemField(
        required=False,
        label=gettext_lazy("Your partners' authority"),
        help_text=gettext_lazy(
            "Whose client certificates are believed. Empty: one is made for the trial, with one caller."
        ),
    )

    def clean_hosts(self) -> tuple[str, ...]:
        hosts = tuple(name.strip() for name in self.cleaned_data["hosts"].split(",") if name.strip())
        if not hosts:
            raise ValidationError(gettext("Give at least one name."))
        return hosts

    def clean_partners(self) -> str:
        data = self.cleaned_data["partners"]
        return pem_of(read_certificates(data).certificates) if data else ""


class EdgeForm(forms.Form):
    bind = forms.CharField(
        label=gettext_lazy("Callers come to"),
        max_length=255,
        help_text=gettext_lazy("Address and port number at which the edge listens."),
    )
    registration = forms.CharField(
        label=gettext_lazy("The internal node dials"),
        max_length=255,
        help_text=gettext_lazy("Another port number, for the tunnel alone."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        first = free_port(8443)
        second = free_port(8444, taken=frozenset({first}))
        kwargs["initial"] = {"bind": f"127.0.0.1:{first}", "registration": f"127.0.0.1:{second}"}
        super().__init__(*args, **kwargs)


class InsideForm(forms.Form):
    address = forms.CharField(
        label=gettext_lazy("Reaches the edge at"),
        max_length=255,
        help_text=gettext_lazy("Host and port number of the edge, as seen from inside."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        port = Port.objects.of_type(PortType.REGISTRATION).first()
        if port is not None:
            host, number = parse_bind(port.bind)
            kwargs["initial"] = {"address": join_host_port("localhost" if host in ANYWHERE else host, number)}
        super().__init__(*args, **kwargs)


class FirstServiceForm(forms.Form):
    path = forms.CharField(
        initial="/hello", max_length=255, help_text=gettext_lazy("Below it everything goes to the service.")
    )
    backend = forms.CharField(
        required=False,
        max_length=2000,
        help_text=gettext_lazy(
            "http://127.0.0.1:8080, as the internal node reaches it. Empty: a builtin that tells who called."
        ),
    )


class CallerForm(forms.Form):
    user = forms.CharField(initial="partner-one", max_length=255, help_text=gettext_lazy("Whom its requests run as."))
    certificate = PemField(
        required=False,
        help_text=gettext_lazy(
            "The partner's certificate; no key is needed. Empty: that of the trial, whose key nobody has."
        ),
    )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not data.get("certificate") and "certificate" not in self.errors and _waiting() is None:
            self.add_error(
                "certificate", gettext("There is no certificate on file that waits for a user. Choose a file.")
            )
        return data


# --- how far it is ---


def steps(states: list[NodeState], revision: int) -> list[Step]:
    """In their order. The first that is not done is the next."""
    dialled = [port for port in Port.objects.of_type(PortType.INTERNAL) if _linked(port, states)]
    running = dialled if dialled and all(each.told and each.told["revision"] == revision for each in states) else []
    tested = [
        change for change in Change.objects.filter(kind="test_invoke").order_by("-id")[:20] if _is_green(change.after)
    ]
    return [
        Step(
            "trust",
            gettext("Certificates"),
            gettext("What the nodes show each other and callers, and whose they believe."),
            [*Truststore.objects.all()[:2], *Keystore.objects.all()[:2]] if Keystore.objects.exists() else [],
            TrustForm,
        ),
        Step(
            "edge",
            gettext("The edge"),
            gettext("A node where callers come, with a port for them and one for the tunnel."),
            list(Port.objects.of_type(PortType.EXTERNAL)[:2]),
            EdgeForm,
        ),
        Step(
            "inside",
            gettext("The internal node"),
            gettext("It dials out to the edge: no port of the inner firewall is opened."),
            list(Registration.objects.all()[:2]) if Port.objects.of_type(PortType.INTERNAL).exists() else [],
            InsideForm,
        ),
        Step(
            "service",
            gettext("A service"),
            gettext("What runs inside, and the group that may call it."),
            list(Service.objects.all()[:2]),
            FirstServiceForm,
        ),
        Step(
            "caller",
            gettext("A caller"),
            gettext("A user, and the certificate that proves it."),
            list(Certificate.objects.filter(user__isnull=False)[:2]),
            CallerForm,
        ),
        Step(
            "run",
            gettext("Start the nodes"),
            gettext("Each command runs until it is stopped; one a terminal."),
            list(running),
        ),
        Step(
            "try",
            gettext("Test invoke"),
            gettext("A real request as the caller, through both nodes."),
            list(tested[:1]),
        ),
    ]


def _linked(port: Port, states: list[NodeState]) -> bool:
    return any(each["port"] == port.name and each["idle"] + each["busy"] for state in states for each in state.tunnels)


def _is_green(after: dict[str, Any] | None) -> bool:
    """A test that was sent, and let in as somebody."""
    told = after or {}
    users = [user for user in (told.get("users") or {}).values() if user]
    return not told.get("simulated") and 200 <= int(told.get("status") or 0) < 300 and bool(users)


def command(node: Node) -> str:
    """What starts the node on this machine, to be copied."""
    if environment.IN_CHECKOUT:
        root = environment.PACKAGE.parent
        python = sys.executable if not sys.executable.startswith(str(root)) else os.path.relpath(sys.executable, root)
        return f"cd {shlex.quote(str(root))} && {shlex.quote(python)} manage.py relay --node {shlex.quote(node.name)}"
    return command_line(f"relay --node {shlex.quote(node.name)}")


def commands(states: list[NodeState]) -> list[dict[str, Any]]:
    """Of each node: what starts it, and whether it runs. One on a machine of its own is not started here."""
    elsewhere = set(Enrolment.objects.enrolled().values_list("node_id", flat=True))
    return [
        {
            "node": state.node,
            "command": "" if state.node.pk in elsewhere else command(state.node),
            "runs": state.told is not None,
        }
        for state in states
    ]


# --- what each step writes; all of it inside a change set ---


def carry_out(key: str, data: dict[str, Any]) -> None:
    """Raises ValidationError, in the words of the form that refused; nothing may be kept then."""
    _ACTS[key](data)


def everything() -> None:
    """Every step that writes, with its defaults. Raises ValidationError, as `carry_out`."""
    for key, form in (("trust", TrustForm), ("edge", EdgeForm), ("inside", InsideForm),
                      ("service", FirstServiceForm), ("caller", CallerForm)):  # fmt: skip
        filled = form(_as_sent(form()))
        if not filled.is_valid():
            raise ValidationError(_words(filled))
        carry_out(key, filled.cleaned_data)


def _trust(data: dict[str, Any]) -> None:
    now = datetime.now(UTC)
    servers = authority(f"CN=Servers,{TRIAL}", now)
    partners = data["partners"]
    if not partners:
        own = authority(f"CN=Partners,{TRIAL}", now)
        caller = leaf(own, f"CN=partner-one,{TRIAL}", Purpose.CLIENT, now)
        partners = own.pem.decode()
    _save(TruststoreForm, name="partners", add=partners)
    _save(TruststoreForm, name="servers", add=servers.pem.decode())
    hosts = data["hosts"]
    _keystore("edge-server", leaf(servers, f"CN={hosts[0]},{TRIAL}", Purpose.SERVER, now, hosts=hosts))
    _keystore("inside-client", leaf(servers, f"CN=inside,{TRIAL}", Purpose.CLIENT, now))
    if not data["partners"]:
        _save(
            NewCertificateForm,
            name="partner-one",
            pem=caller.pem.decode(),
            description="Of the trial: nobody has its key",
        )


def _keystore(name: str, minted: Minted) -> None:
    _save(KeystoreForm, name=name, certificate=minted.pem.decode(), private_key=minted.key_pem.decode())


def _edge(data: dict[str, Any]) -> None:
    node = Node.objects.filter(role=Role.EDGE).first() or _save(NodeForm, name="edge", role="edge")
    sent = _as_sent(PairForm())
    for part, form in (("external", PairForm().external), ("registration", PairForm().registration)):
        for name, values in _as_sent(form).lists():
            sent.setlist(name, values)
        sent.setlist(f"{part}-tls_keystore", [str(_named(Keystore, "edge-server").pk)])
    for name, value in {
        "node": node.pk, "external-name": "ext", "external-bind": data["bind"],
        "external-client_auth": "request", "external-explain": "on",
        "external-tls_truststore": _named(Truststore, "partners").pk,
        "registration-name": "reg", "registration-bind": data["registration"],
        "registration-tls_truststore": _named(Truststore, "servers").pk,
    }.items():  # fmt: skip
        sent.setlist(name, [str(value)])
    form = PairForm(sent)
    if not form.is_valid():
        raise ValidationError([*_words(form), *_words(form.external), *_words(form.registration)])
    form.save()


def _inside(data: dict[str, Any]) -> None:
    node = Node.objects.filter(role=Role.INTERNAL).first() or _save(NodeForm, name="inside", role="internal")
    port = Port.objects.of_type(PortType.REGISTRATION).first()
    if port is None:
        raise ValidationError(gettext("There is no registration port yet: the edge comes first."))
    keystore = _named(Keystore, "inside-client")
    registration = _save(
        RegistrationForm, name=f"{node}-at-{port}", port=port, node=node, from_keystore=keystore, allow_test=True,
        limits_assertions=True, may_assert_truststores=[_named(Truststore, "partners")],
    )  # fmt: skip
    _save(
        PortForm, type=PortType.INTERNAL, name="dial", node=node, tls_keystore=keystore,
        tls_truststore=_named(Truststore, "servers"), client_auth="request",
        client_truststore=_named(Truststore, "partners"), dial_address_0=data["address"],
        dial_registration_0=registration, tls_server_name=_name_of(_named(Keystore, "edge-server")),
    )  # fmt: skip


def _name_of(keystore: Keystore) -> str:
    """A name that the edge's certificate has, by which the internal node knows it whatever address it dials."""
    names = [str(name) for name in keystore.certificate.alternative_names]
    return next((name.partition(":")[2] for name in names if name.startswith("dns:")), "")


def _service(data: dict[str, Any]) -> None:
    node = Node.objects.filter(role=Role.INTERNAL).first()
    if node is None:
        raise ValidationError(gettext("There is no internal node yet: it comes before its service."))
    group = Group.objects.filter(name="Partners").first() or _save(GroupForm, name="Partners")
    acl = _save(ACLForm, name="Partners", **{f"group_{group.pk.hex}": "allowed"})
    runs = {"backend": data["backend"], "builtin": ""} if data["backend"] else {"builtin": "whoami"}
    _save(ServiceForm, name="first", node=node, path=data["path"], execute_acl=acl, **runs)
    for port in Port.objects.of_type(PortType.EXTERNAL, PortType.INTERNAL):
        access = port.service_access
        if data["path"] not in access["allow"]:
            _save(PortForm, instance=port, type=port.type, service_allow="\n".join([*access["allow"], data["path"]]))


def _caller(data: dict[str, Any]) -> None:
    group = Group.objects.filter(name="Partners").first()
    user = User.objects.filter(name=data["user"]).first()
    user = user or _save(UserForm, name=data["user"], groups=[group] if group else [])
    if data["certificate"]:
        chain = files.in_order(read_certificates(data["certificate"]).certificates)
        _save(NewCertificateForm, name=proposed_name(chain[0]), pem=pem_of(chain), user=user)
        return
    row = _waiting()
    assert row is not None  # the form has looked
    row.user = user
    row.save()


def _waiting() -> Certificate | None:
    """One that is on file, and mapped to nobody: of the trial as a rule."""
    return Certificate.objects.filter(user=None, blocked=False).order_by("-not_after").first()


_ACTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "trust": _trust, "edge": _edge, "inside": _inside, "service": _service, "caller": _caller,
}  # fmt: skip


def _named(model: Any, name: str) -> Any:
    """That which the first step made; the first one there is where somebody made his own."""
    row = model._default_manager.filter(name=name).first() or model._default_manager.order_by("name").first()
    if row is None:
        words = gettext("There is no {noun} yet: the certificates come first.")
        raise ValidationError(words.format(noun=SINGULAR[KIND_OF[model]]))
    return row


def _save(form: type[NounForm], *, instance: Any = None, type: Any = None, **values: Any) -> Any:
    """What the form makes of its own defaults, or of what is stored, and `values`. Raises ValidationError."""
    options: dict[str, Any] = {"instance": instance} if instance is not None else {}
    if type is not None:
        options["type"] = type
    sent = _as_sent(form(**options))
    for name, value in values.items():
        listed = value if isinstance(value, list) else [value]
        sent.setlist(name, [_text(each) for each in listed if each is not False])
    # Making the unbound form may have set something on the row.
    fresh = {**options, "instance": instance.__class__._default_manager.get(pk=instance.pk)} if instance else options
    filled = form(sent, MultiValueDict(), **fresh)
    if not filled.is_valid():
        raise ValidationError(_words(filled))
    return filled.save()


def _as_sent(form: Any) -> "MultiValueDict[str, str]":
    """What a browser sends of a form that nobody has touched."""
    sent: MultiValueDict[str, str] = MultiValueDict()
    for bound in form:
        value = bound.value()
        if value is None or value is False or value == "":
            continue
        listed = value if isinstance(value, list | tuple) else [value]
        sent.setlist(bound.html_name, [_text(each) for each in listed])
    return sent


def _text(value: Any) -> str:
    if value is True:
        return "on"
    return str(value.pk) if isinstance(value, Model) else str(value)


def _words(form: Any) -> list[str]:
    """Every error with the field that it is of."""
    return [
        f"{form.fields[name].label or name}: {' '.join(map(str, errors))}" if name in form.fields else " ".join(errors)
        for name, errors in form.errors.items()
    ]
