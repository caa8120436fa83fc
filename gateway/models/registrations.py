"""Registrations: which node may dial in at which registration port, and what its channel may carry."""

from django.core.exceptions import ValidationError
from django.db import models

from gateway.core.paths import is_normal
from gateway.models.nodes import Node, Role
from gateway.models.ports import Port, PortType
from identity.models import Group, Truststore
from identity.models.base import name_is_safe
from identity.models.certificates import Described, Named


class Registration(Described, Named):
    """The node is known by exactly this certificate. `may_assert…` empty: see `semantics` of `may_assert`."""

    port = models.ForeignKey(Port, on_delete=models.PROTECT, related_name="registrations")
    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="registrations")
    enabled = models.BooleanField(default=True)
    allow_test = models.BooleanField(
        default=False, help_text="Take test invokes with a certificate whose key nobody here has."
    )
    paths = models.JSONField(
        default=list, blank=True, help_text="Paths that the channel may carry; none given: every path."
    )
    limits_assertions = models.BooleanField(
        default=False,
        verbose_name="limit what may be asserted",
        help_text="Off: every trusted certificate, every group but Administrators.",
    )
    may_assert_truststores = models.ManyToManyField(Truststore, blank=True, related_name="registrations")
    may_assert_groups = models.ManyToManyField(Group, blank=True, related_name="registrations")

    class Meta(Named.Meta):
        constraints = [
            name_is_safe("registration"),
            models.UniqueConstraint(
                fields=["port", "sha256"],
                name="registration_certificate_once_per_port",
                violation_error_message="Another registration at this port has this certificate; each needs its own.",
            ),
        ]

    def clean(self) -> None:
        super().clean()
        errors: dict[str, str] = {}
        if self.port_id and self.port.type != PortType.REGISTRATION:
            errors["port"] = f"{self.port.name} is of type {self.port.type}; a registration port is needed."
        if self.node_id and self.node.role != Role.INTERNAL:
            errors["node"] = f"{self.node.name} is {self.node.role}; only an internal node dials in."
        if not isinstance(self.paths, list) or not all(
            isinstance(path, str) and path.startswith("/") and is_normal(path) for path in self.paths
        ):
            errors["paths"] = "Give paths in normal form, each beginning with a slash."
        if errors:
            raise ValidationError(errors)
