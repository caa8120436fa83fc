"""Ports: where requests enter a node."""

from collections.abc import Iterable
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext, gettext_lazy

from gateway.core.addresses import join_host_port, parse_bind, parse_network, split_host_port
from gateway.core.limits import LimitError, Limits
from gateway.core.paths import is_normal
from gateway.models.nodes import Node, Role
from identity.core.names import is_name
from identity.models import Keystore, Truststore
from identity.models.base import Named, name_is_safe
from identity.models.english import English


class PortType(models.TextChoices):
    REGULAR = "regular", gettext_lazy("Regular (clients call the node itself)")
    EXTERNAL = "external", gettext_lazy("External (clients call the edge)")
    REGISTRATION = "registration", gettext_lazy("Registration (internal nodes dial in)")
    INTERNAL = "internal", gettext_lazy("Internal (the far end of the dial)")


class ClientAuth(models.TextChoices):
    PASSWORD = "password", gettext_lazy("Password (never asks for a certificate)")
    REQUEST = "request", gettext_lazy("Request (asks; goes on without one)")
    REQUIRE = "require", gettext_lazy("Require (refuses without one)")


class TLSVersion(models.TextChoices):
    """The oldest that is spoken. TLS 1.0 and 1.1 are gone for good (RFC 8996)."""

    TLS_1_2 = "1.2", gettext_lazy("TLS 1.2")
    TLS_1_3 = "1.3", gettext_lazy("TLS 1.3")


class CipherSet(models.TextChoices):
    """For TLS 1.2; with TLS 1.3 there is nothing to choose. Sets with a name, for a list of one's own ages badly."""

    STRONG = "strong", gettext_lazy("Strong")
    COMPATIBLE = "compatible", gettext_lazy("Compatible (CBC too)")


ROLE_OF_TYPE = {
    PortType.EXTERNAL: (Role.EDGE,),
    PortType.REGISTRATION: (Role.EDGE,),
    PortType.INTERNAL: (Role.INTERNAL,),
    PortType.REGULAR: (Role.EDGE, Role.INTERNAL, Role.STANDALONE),
}
ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound


def service_access_default() -> dict[str, Any]:
    """What is new denies."""
    return {"default": "deny", "allow": [], "deny": []}


def ip_access_default() -> dict[str, Any]:
    return {"default": "allow", "allow": [], "deny": []}


class PortQuerySet(models.QuerySet["Port"]):
    def listening(self) -> Self:
        return self.filter(enabled=True).exclude(type=PortType.INTERNAL)

    def of_type(self, *types: PortType) -> Self:
        return self.filter(type__in=types)


class Port(Named):
    """One door of one node. Which fields speak depends on `type`; `clean` refuses those that would not."""

    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="ports")
    type = models.CharField(max_length=16, choices=PortType.choices)
    enabled = models.BooleanField(default=True)
    description = models.CharField(max_length=255, blank=True)
    bind = models.CharField(
        max_length=64,
        blank=True,
        help_text=gettext_lazy("IP address and port number: 0.0.0.0:8443, [::]:8443, 127.0.0.1:8443"),
    )
    tls_keystore = models.ForeignKey(
        Keystore,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="ports",
        verbose_name="keystore",
        help_text=gettext_lazy("The certificate shown; at an internal port: shown when it registers."),
    )
    tls_truststore = models.ForeignKey(
        Truststore,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="ports",
        verbose_name="truststore",
        help_text=gettext_lazy(
            "Whose client certificates are believed; at an internal port: whose registration ports."
        ),
    )
    tls_server_name = models.CharField(
        max_length=253,
        blank=True,
        verbose_name=gettext_lazy("server name"),
        help_text=gettext_lazy("Internal ports: the name that the registration port's certificate must have."),
    )
    tls_keystores = models.ManyToManyField(
        Keystore,
        blank=True,
        related_name="ports_by_name",
        verbose_name=gettext_lazy("further keystores"),
        help_text=gettext_lazy(
            "Shown instead to clients that ask for a name of theirs (SNI). Whom the port trusts stays the same."
        ),
    )
    tls_min_version = models.CharField(
        max_length=4,
        choices=TLSVersion.choices,
        default=TLSVersion.TLS_1_2,
        db_default=TLSVersion.TLS_1_2,
        verbose_name=gettext_lazy("oldest TLS version"),
    )
    tls_ciphers = models.CharField(
        max_length=16,
        choices=CipherSet.choices,
        default=CipherSet.STRONG,
        db_default=CipherSet.STRONG,
        verbose_name=gettext_lazy("ciphers of TLS 1.2"),
    )
    client_auth = models.CharField(max_length=16, choices=ClientAuth.choices, default=ClientAuth.PASSWORD)
    client_truststore = models.ForeignKey(
        Truststore,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="internal_ports",
        help_text=gettext_lazy("Internal ports: whose client certificates are believed when the edge hands them on."),
    )
    accept_basic = models.BooleanField(
        null=True, blank=True, help_text=gettext_lazy("Unset: yes with password and request, no with require.")
    )
    authenticate = models.BooleanField(
        default=False,
        help_text=gettext_lazy("External ports: also map the certificate, or check the password, on the edge."),
    )
    explain = models.BooleanField(default=False, help_text=gettext_lazy("Tell callers in words why they were refused."))
    registration_port = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="external_ports",
        help_text=gettext_lazy("External ports: where paths that are no API are passed through."),
    )
    wait = models.FloatField(
        default=5.0,
        validators=[MinValueValidator(0.0), MaxValueValidator(300.0)],
        help_text=gettext_lazy("Seconds that a request waits for a free tunnel."),
    )
    connections_min = models.PositiveIntegerField(default=2, validators=[MinValueValidator(1)])
    connections_spare = models.PositiveIntegerField(default=2)
    connections_max = models.PositiveIntegerField(default=64, validators=[MaxValueValidator(10_000)])
    service_access = models.JSONField(default=service_access_default, blank=True)
    ip_access = models.JSONField(default=ip_access_default, blank=True)
    trusted_proxies = models.JSONField(
        default=list, blank=True, help_text=gettext_lazy("Networks whose X-Forwarded-For and traceparent are believed.")
    )
    limits = models.JSONField(default=dict, blank=True, help_text=gettext_lazy("Only what differs from the defaults."))

    objects = PortQuerySet.as_manager()

    class Meta(Named.Meta):
        constraints = [
            name_is_safe("port"),
            models.CheckConstraint(
                condition=Q(type__in=PortType.values),
                name="port_type_is_known",
                violation_error_message=gettext_lazy("type is regular, external, registration or internal."),
            ),
            models.CheckConstraint(
                condition=Q(client_auth__in=ClientAuth.values),
                name="port_client_auth_is_known",
                violation_error_message=gettext_lazy("client_auth is password, request or require."),
            ),
            models.CheckConstraint(
                condition=Q(tls_min_version__in=TLSVersion.values),
                name="port_tls_min_version_is_known",
                violation_error_message=gettext_lazy("tls.min_version is 1.2 or 1.3."),
            ),
            models.CheckConstraint(
                condition=Q(tls_ciphers__in=CipherSet.values),
                name="port_tls_ciphers_are_known",
                violation_error_message=gettext_lazy("tls.ciphers is strong or compatible."),
            ),
            models.CheckConstraint(
                condition=Q(type="internal", bind="") | (~Q(type="internal") & ~Q(bind="")),
                name="port_listens_unless_internal",
                violation_error_message=gettext_lazy(
                    "An internal port dials and has no address to listen at; all others need one."
                ),
            ),
            models.CheckConstraint(
                condition=Q(type="external", registration_port__isnull=False)
                | (~Q(type="external") & Q(registration_port__isnull=True)),
                name="port_external_has_registration_port",
                violation_error_message=gettext_lazy(
                    "An external port needs its registration port, and no other kind has one."
                ),
            ),
            models.CheckConstraint(
                condition=Q(connections_min__lte=F("connections_max"), connections_spare__lte=F("connections_max")),
                name="port_connections_within_max",
                violation_error_message=gettext_lazy("connections: min and spare cannot exceed max."),
            ),
            models.CheckConstraint(
                condition=Q(client_auth="password") | Q(type="internal") | Q(tls_keystore__isnull=False),
                name="port_certificates_need_tls",
                violation_error_message=gettext_lazy("Only a port with TLS (a keystore) can ask for certificates."),
            ),
            models.UniqueConstraint(
                fields=["node", "bind"],
                condition=~Q(bind=""),
                name="port_address_once_per_node",
                violation_error_message=gettext_lazy("Another port of this node listens at this address."),
            ),
        ]

    @property
    def accepts_basic(self) -> bool:
        return self.client_auth != ClientAuth.REQUIRE if self.accept_basic is None else self.accept_basic

    def clean_fields(self, exclude: Any = None) -> None:
        if self.type != PortType.INTERNAL and self.bind:
            try:
                self.bind = join_host_port(*parse_bind(self.bind))
            except ValueError as error:
                raise ValidationError({"bind": English(error)}) from error
        super().clean_fields(exclude)

    def clean(self) -> None:
        super().clean()
        errors: dict[str, str] = {}
        self._check_role(errors)
        self._check_tls(errors)
        self._check_address(errors)
        for field, check in (
            ("service_access", self._check_service_access),
            ("ip_access", self._check_ip_access),
            ("trusted_proxies", self._check_trusted_proxies),
        ):
            try:
                check()
            except ValueError as error:
                errors[field] = str(error)
        try:
            Limits.of(self.limits if isinstance(self.limits, dict) else {"limits": 0})
        except LimitError as error:
            errors["limits"] = English(error)
        if errors:
            raise ValidationError(errors)

    def _check_role(self, errors: dict[str, str]) -> None:
        if self.node_id and self.type in ROLE_OF_TYPE and self.node.role not in ROLE_OF_TYPE[PortType(self.type)]:
            allowed = " or ".join(role.value for role in ROLE_OF_TYPE[PortType(self.type)])
            errors["type"] = gettext("{node} is {role}; a port of type {type} needs a node that is {allowed}.").format(
                node=self.node.name, role=self.node.role, type=self.type, allowed=allowed
            )
        pair = self.registration_port
        if pair is not None:
            if pair.type != PortType.REGISTRATION:
                errors["registration_port"] = gettext(
                    "{pair} is of type {type}; a registration port is needed."
                ).format(pair=pair.name, type=pair.type)
            elif self.node_id and pair.node_id != self.node_id:
                errors["registration_port"] = gettext("{pair} is a port of {node}; take one of the same node.").format(
                    pair=pair.name, node=pair.node.name
                )
        elif self.type == PortType.EXTERNAL:
            errors["registration_port"] = gettext("An external port needs its registration port.")
        if self.type != PortType.EXTERNAL and self.authenticate:
            errors["authenticate"] = gettext(
                "Only an external port passes requests through; every other authenticates anyway."
            )

    def _check_tls(self, errors: dict[str, str]) -> None:
        registration, internal = self.type == PortType.REGISTRATION, self.type == PortType.INTERNAL
        if (registration or internal) and not self.tls_keystore_id:
            errors["tls_keystore"] = gettext("The tunnel is TLS with both ends proved: a keystore is needed.")
        if (registration or internal) and not self.tls_truststore_id:
            errors["tls_truststore"] = gettext("The tunnel is TLS with both ends proved: a truststore is needed.")
        if registration and self.client_auth != ClientAuth.REQUIRE:
            errors["client_auth"] = gettext(
                "A registration port requires certificates: nodes are known by nothing else."
            )
        asks = self.client_auth in (ClientAuth.REQUEST, ClientAuth.REQUIRE)
        if asks and internal and not self.client_truststore_id:
            errors["client_truststore"] = gettext(
                "To take callers' certificates, name the truststore that they must chain to."
            )
        if asks and not internal and not self.tls_keystore_id:
            errors["client_auth"] = gettext(
                "Only a port with TLS can ask for certificates; give it a keystore or use password."
            )
        elif asks and not internal and not self.tls_truststore_id:
            errors["tls_truststore"] = gettext("To ask for certificates, name the truststore that they must chain to.")
        if self.client_truststore_id and not internal:
            errors["client_truststore"] = gettext(
                "Only an internal port has one; every other believes its tls truststore."
            )
        if self.tls_server_name and not internal:
            errors["tls_server_name"] = gettext("Only an internal port dials, and only there a server name is checked.")

    def check_keystores(self, keystores: Iterable[Keystore]) -> None:
        """Whether `keystores` may be the further ones. Raises ValueError.

        Not part of `clean`, which sees the row alone.
        """
        further = list(keystores)
        if not further:
            return
        if self.type == PortType.INTERNAL:
            raise ValueError(gettext("An internal port dials, and shows the one certificate that it registers with."))
        if self.tls_keystore is None:
            raise ValueError(
                gettext("Give the port a keystore first: it is shown to whoever asks for no name, or another.")
            )
        taken = dict.fromkeys(self.tls_keystore.certificate.host_names, self.tls_keystore)
        for keystore in further:
            if keystore == self.tls_keystore:
                raise ValueError(gettext("{keystore} is the port's keystore already.").format(keystore=keystore))
            names = keystore.certificate.host_names
            if not names:
                raise ValueError(
                    gettext("{keystore} names no host, and so no client could ask for it.").format(keystore=keystore)
                )
            for name in names:
                if name in taken:
                    raise ValueError(
                        gettext("{keystore} and {taken} are both for {name}; keep one of them.").format(
                            keystore=keystore, taken=taken[name], name=name
                        )
                    )
                taken[name] = keystore

    def _check_address(self, errors: dict[str, str]) -> None:
        if not self.bind or not self.node_id:
            return
        try:
            host, number = split_host_port(self.bind)
        except ValueError:
            return  # `clean_fields` has said what is wrong with it
        for other in Port.objects.filter(node=self.node_id).exclude(pk=self.pk).exclude(bind=""):
            other_host, other_number = split_host_port(other.bind)
            same_host = host == other_host or host in ANY_ADDRESS or other_host in ANY_ADDRESS
            if number == other_number and same_host:
                errors["bind"] = gettext(
                    "{other} listens at {bind} already; two ports cannot share an address."
                ).format(other=other.name, bind=other.bind)

    def _check_service_access(self) -> None:
        from gateway.models.services import Service

        access = _check_access_shape(self.service_access, "service_access")
        for entry in (*access["allow"], *access["deny"]):
            if entry.startswith("/"):
                if not is_normal(entry):
                    raise ValueError(gettext("{entry!r} is not a path in normal form.").format(entry=entry))
            elif not is_name(entry):
                raise ValueError(
                    gettext(
                        "{entry!r} is neither a path (begins with a slash) nor the name of a service or API."
                    ).format(entry=entry)
                )
            elif not Service.objects.filter(name=entry).exists() and not _api_exists(entry):
                raise ValueError(gettext("There is no service or API {entry!r}.").format(entry=entry))
        if both := set(access["allow"]) & set(access["deny"]):
            raise ValueError(
                gettext("{names}: allowed and denied at once; keep one of the two.").format(
                    names=", ".join(sorted(both))
                )
            )

    def _check_ip_access(self) -> None:
        access = _check_access_shape(self.ip_access, "ip_access")
        for entry in (*access["allow"], *access["deny"]):
            parse_network(entry)

    def _check_trusted_proxies(self) -> None:
        if not isinstance(self.trusted_proxies, list) or not all(isinstance(n, str) for n in self.trusted_proxies):
            raise ValueError(gettext("Give a list of networks, like 10.0.0.0/8."))
        for entry in self.trusted_proxies:
            parse_network(entry)


def _check_access_shape(access: object, field: str) -> dict[str, Any]:
    if not isinstance(access, dict) or set(access) - {"default", "allow", "deny"}:
        raise ValueError(gettext("{field} has default, allow and deny, nothing else.").format(field=field))
    access.setdefault("default", "deny" if field == "service_access" else "allow")
    if access["default"] not in ("allow", "deny"):
        raise ValueError(gettext("default is allow or deny, not {default!r}.").format(default=access["default"]))
    for key in ("allow", "deny"):
        values = access.setdefault(key, [])
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise ValueError(gettext("{key} is a list of texts.").format(key=key))
    return access


def _api_exists(name: str) -> bool:
    from gateway.models.apis import API

    return API.objects.filter(name=name).exists()


class Dial(models.Model):
    """Where an internal port dials, and as which registration."""

    port = models.ForeignKey(Port, on_delete=models.CASCADE, related_name="connect")
    address = models.CharField(
        max_length=255, help_text=gettext_lazy("Host and port of the registration port, as seen from here")
    )
    registration = models.ForeignKey("gateway.Registration", on_delete=models.PROTECT, related_name="dials")

    class Meta:
        ordering = ["address"]
        constraints = [
            models.UniqueConstraint(
                fields=["port", "address", "registration"],
                name="dial_once",
                violation_error_message=gettext_lazy("The port dials there already."),
            )
        ]

    def __str__(self) -> str:
        return f"{self.address} as {self.registration}"

    def clean(self) -> None:
        super().clean()
        try:
            split_host_port(self.address)
        except ValueError as error:
            raise ValidationError({"address": English(error)}) from error
        if self.port_id and self.port.type != PortType.INTERNAL:
            raise ValidationError({"address": gettext("Only an internal port dials.")})
        if self.registration_id and self.port_id and self.registration.node_id != self.port.node_id:
            raise ValidationError(
                {
                    "registration": gettext("{registration} is of node {node}, the port of {node2}.").format(
                        registration=self.registration.name, node=self.registration.node.name, node2=self.port.node.name
                    )
                }
            )

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.full_clean()
        super().save(*args, **kwargs)
