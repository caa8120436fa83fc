"""Endpoints: where, and as whom, an API calls."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext, gettext_lazy

from gateway.core.addresses import EndpointURL, parse_url
from gateway.models.ports import Port, PortType
from identity.models import Keystore, Truststore, sealing
from identity.models.base import Named, name_is_safe
from identity.models.english import English


class EndpointIdentity(models.TextChoices):
    CALLER = "caller", gettext_lazy("Caller (hand on whoever called)")
    CERTIFICATE = "certificate", gettext_lazy("Certificate (of a keystore)")
    BASIC = "basic", gettext_lazy("User and password")
    ANONYMOUS = "anonymous", gettext_lazy("Anonymous")


class Endpoint(Named):
    """`https://…` is called directly, `reverse://REGISTRATION-PORT/…` through the tunnels registered there."""

    SEALED = ("password",)

    url = models.CharField(max_length=1024, verbose_name="URL")
    registration_port = models.ForeignKey(
        Port, null=True, editable=False, on_delete=models.PROTECT, related_name="endpoints"
    )
    identity = models.CharField(
        max_length=16,
        blank=True,
        choices=EndpointIdentity.choices,
        help_text=gettext_lazy(
            "Unset: caller for reverse://; for https:// certificate with a keystore, else anonymous."
        ),
    )
    keystore = models.ForeignKey(
        Keystore,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="endpoints",
        help_text=gettext_lazy("Identity certificate: whose certificate is shown."),
    )
    truststore = models.ForeignKey(
        Truststore,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="endpoints",
        help_text=gettext_lazy(
            "https: who must have signed the server's certificate. Unset: the system's authorities."
        ),
    )
    username = models.CharField(max_length=255, blank=True)
    password = models.BinaryField(blank=True, editable=False, help_text=gettext_lazy("Sealed."))
    forward_authorization = models.BooleanField(
        default=False, help_text=gettext_lazy("https: hand the caller's Authorization header on.")
    )
    timeout = models.FloatField(
        default=60.0,
        validators=[MinValueValidator(0.1), MaxValueValidator(3600.0)],
        help_text=gettext_lazy("Seconds until the first byte of the answer."),
    )
    description = models.CharField(max_length=255, blank=True)

    class Meta(Named.Meta):
        constraints = [
            name_is_safe("endpoint"),
            models.CheckConstraint(
                condition=Q(identity__in=["", *EndpointIdentity.values]),
                name="endpoint_identity_is_known",
                violation_error_message=gettext_lazy("identity is caller, certificate, basic or anonymous."),
            ),
            models.CheckConstraint(
                condition=~Q(identity="certificate") | Q(keystore__isnull=False),
                name="endpoint_certificate_has_keystore",
                violation_error_message=gettext_lazy("Identity certificate needs a keystore."),
            ),
            models.CheckConstraint(
                condition=~Q(identity="basic") | ~Q(username=""),
                name="endpoint_basic_has_username",
                violation_error_message=gettext_lazy("Identity basic needs a username."),
            ),
        ]

    def set_password(self, password: str) -> None:
        sealing.seal(self, "password", password.encode())

    def open_password(self) -> str:
        """In the clear: for the relay's memory alone."""
        return sealing.open_sealed(self, "password").decode()

    def keeps_password_from(self, url: str) -> str:
        """To whom the stored password was given, where `url` leads to somebody else; "" where it may go there.

        Whoever may change where an endpoint leads would have it sent to himself.
        """
        try:
            there = parse_url(url, ("https", "reverse")).origin
            here = self.parsed_url().origin
        except ValueError:  # the model will say what is wrong with it
            return ""
        return here if self.password and there != here else ""

    @property
    def is_reverse(self) -> bool:
        return self.url.startswith("reverse://")

    @property
    def effective_identity(self) -> EndpointIdentity:
        if self.identity:
            return EndpointIdentity(self.identity)
        if self.is_reverse:
            return EndpointIdentity.CALLER
        return EndpointIdentity.CERTIFICATE if self.keystore_id else EndpointIdentity.ANONYMOUS

    def parsed_url(self) -> EndpointURL:
        return parse_url(self.url, ("https", "reverse"))

    def clean_fields(self, exclude: Any = None) -> None:
        try:
            url = self.parsed_url()
        except ValueError as error:
            raise ValidationError({"url": English(error)}) from error
        self.registration_port = None
        if url.scheme == "reverse":
            self.registration_port = Port.objects.filter(name=url.host).first()
            if self.registration_port is None:
                raise ValidationError({"url": gettext("There is no registration port {host!r}.").format(host=url.host)})
            if self.registration_port.type != PortType.REGISTRATION:
                raise ValidationError(
                    {
                        "url": gettext("{host} is a port of type {type}; name a registration port.").format(
                            host=url.host, type=self.registration_port.type
                        )
                    }
                )
        super().clean_fields(exclude)

    def clean(self) -> None:
        super().clean()
        errors: dict[str, str] = {}
        identity = self.effective_identity
        if identity == EndpointIdentity.CALLER and not self.is_reverse:
            errors["identity"] = gettext(
                "The caller's certificate cannot be shown to an https server: we lack its key. Use reverse://."
            )
        if identity == EndpointIdentity.CERTIFICATE and not self.keystore_id:
            errors["keystore"] = gettext("Identity certificate needs a keystore.")
        if self.keystore_id and identity != EndpointIdentity.CERTIFICATE and self.is_reverse:
            errors["keystore"] = gettext(
                "The keystore would have no effect with identity {value}; use certificate, or take it away."
            ).format(value=identity.value)
        if self.truststore_id and self.is_reverse:
            errors["truststore"] = gettext(
                "A tunnel is proved by its registration; a truststore here would have no effect."
            )
        if self.forward_authorization and self.is_reverse:
            errors["forward_authorization"] = gettext(
                "Only https endpoints have it; through a tunnel use identity caller."
            )
        if identity == EndpointIdentity.BASIC and not (self.username and self.password):
            errors["username"] = gettext("Identity basic needs a username and a password.")
        if identity != EndpointIdentity.BASIC and (self.username or self.password):
            errors["username"] = gettext(
                "User and password would have no effect with identity {value}; use basic, or take them away."
            ).format(value=identity.value)
        if ":" in self.username:
            errors["username"] = gettext("A user name in Basic credentials cannot hold a colon (RFC 7617, section 2).")
        if errors:
            raise ValidationError(errors)
