"""Registrations: which node may dial in at which registration port, and what its channel may carry."""

from typing import Any, Self

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext, gettext_lazy

from gateway.core.paths import is_normal
from gateway.models.nodes import Node, Role
from gateway.models.ports import Port, PortType
from identity.core.certificates import Certificate, CertificateError, from_der
from identity.models import Group, Truststore
from identity.models.base import name_is_safe
from identity.models.certificates import Described, Named
from identity.models.english import English


class RegistrationQuerySet(models.QuerySet["Registration"]):
    def known_by(self, sha256: str) -> Self:
        """Those that admit the node that holds this certificate, as its present or its next one."""
        return self.filter(Q(sha256=sha256) | Q(next_sha256=sha256))

    def renewing(self) -> Self:
        """Those that admit two certificates."""
        return self.exclude(next_sha256="")


class Registration(Described, Named):
    """The node is known by exactly this certificate, and by the next one while it is renewed.

    `may_assert…` empty: see `semantics` of `may_assert`.
    """

    port = models.ForeignKey(Port, on_delete=models.PROTECT, related_name="registrations")
    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="registrations")
    # `db_default`: a console of the version before, which knows nothing of these, can still add a registration.
    next_der = models.BinaryField(
        editable=False, blank=True, default=b"", db_default=b"", verbose_name=gettext_lazy("next certificate")
    )
    next_sha256 = models.CharField(max_length=64, editable=False, blank=True, default="", db_default="")
    enabled = models.BooleanField(default=True)
    allow_test = models.BooleanField(
        default=False, help_text=gettext_lazy("Take test invokes with a certificate whose key nobody here has.")
    )
    paths = models.JSONField(
        default=list, blank=True, help_text=gettext_lazy("Paths that the channel may carry; none given: every path.")
    )
    limits_assertions = models.BooleanField(
        default=False,
        verbose_name=gettext_lazy("limit what may be asserted"),
        help_text=gettext_lazy("Off: every trusted certificate, every group but Administrators."),
    )
    may_assert_truststores = models.ManyToManyField(Truststore, blank=True, related_name="registrations")
    may_assert_groups = models.ManyToManyField(Group, blank=True, related_name="registrations")

    objects = RegistrationQuerySet.as_manager()

    class Meta(Named.Meta):
        constraints = [
            name_is_safe("registration"),
            models.UniqueConstraint(
                fields=["port", "sha256"],
                name="registration_certificate_once_per_port",
                violation_error_message=gettext_lazy(
                    "Another registration at this port has this certificate; each needs its own."
                ),
            ),
            models.UniqueConstraint(
                fields=["port", "next_sha256"],
                condition=~Q(next_sha256=""),
                name="registration_next_certificate_once_per_port",
                violation_error_message=gettext_lazy(
                    "Another registration at this port has this certificate as its next one."
                ),
            ),
        ]

    # --- the certificate that is to take the present one's place ---

    @property
    def next_certificate(self) -> Certificate | None:
        return from_der(bytes(self.next_der)) if self.next_der else None

    @property
    def admitted(self) -> tuple[str, ...]:
        """By which certificates the node is known, by SHA-256: the present one, and the next one where there is."""
        return (self.sha256, self.next_sha256) if self.next_sha256 else (self.sha256,)

    def set_next(self, certificate: Certificate | None) -> None:
        """Admit the node by this certificate too, or by the present one alone."""
        self.next_der, self.next_sha256 = (certificate.der, certificate.sha256) if certificate else (b"", "")

    def renew(self) -> None:
        """The next certificate is the present one from now on, and the one before is admitted no longer."""
        certificate = self.next_certificate
        assert certificate is not None, "nothing is asked to take over where there is nothing"
        self.set_certificate(certificate)
        self.set_next(None)

    # --- checks ---

    def clean_fields(self, exclude: Any = None) -> None:
        try:
            self.set_next(self.next_certificate)
        except CertificateError as error:
            raise ValidationError({"next_der": English(error)}) from error
        super().clean_fields(exclude)

    def clean(self) -> None:
        super().clean()
        errors: dict[str, str] = {}
        if self.port_id and self.port.type != PortType.REGISTRATION:
            errors["port"] = gettext("{port} is of type {type}; a registration port is needed.").format(
                port=self.port.name, type=self.port.type
            )
        if self.node_id and self.node.role != Role.INTERNAL:
            errors["node"] = gettext("{node} is {role}; only an internal node dials in.").format(
                node=self.node.name, role=self.node.role
            )
        if not isinstance(self.paths, list) or not all(
            isinstance(path, str) and path.startswith("/") and is_normal(path) for path in self.paths
        ):
            errors["paths"] = gettext("Give paths in normal form, each beginning with a slash.")
        if self.next_sha256 and self.next_sha256 == self.sha256:
            errors["next_der"] = gettext("This is the present certificate; give the one that is to follow it, or none.")
        elif twin := self._twin():
            errors["der" if self.sha256 in twin.admitted else "next_der"] = gettext(
                "Registration {twin} at this port has this certificate; each needs its own."
            ).format(twin=twin)
        if errors:
            raise ValidationError(errors)

    def _twin(self) -> "Registration | None":
        """Another one at this port that admits a certificate which this one does."""
        if not self.port_id:
            return None
        admits = Q(sha256__in=self.admitted) | Q(next_sha256__in=self.admitted)
        return Registration.objects.filter(admits, port=self.port_id).exclude(pk=self.pk).first()

    def validate_constraints(self, exclude: Any = None) -> None:
        # `_twin` has asked for more than the two unique constraints, and all at once.
        super().validate_constraints(exclude={*(exclude or ()), "sha256", "next_sha256"})
