"""Services: what a node runs, at a path."""

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext, gettext_lazy

from gateway.core.addresses import parse_url
from gateway.core.paths import is_normal
from gateway.models.nodes import Node
from identity.models import ACL
from identity.models.base import Named, name_is_safe
from identity.models.english import English


class Builtin(models.TextChoices):
    WHOAMI = "whoami", gettext_lazy("whoami (tells who the request runs as)")
    ECHO = "echo", gettext_lazy("echo (sends the body back)")


IDENTITY_HEADERS = ("client-cert", "xfcc", "user", "jwt")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def check_path(path: str) -> None:
    """Raises ValidationError on field `path` unless it is one that requests can reach."""
    if not path.startswith("/") or not is_normal(path) or (path != "/" and path.endswith("/")):
        raise ValidationError(
            {
                "path": gettext(
                    "{path!r} is not in normal form: begin with a slash, no slash at the end, no dot segments, "
                    "no double or encoded slashes."
                ).format(path=path)
            }
        )
    if path.startswith("/.well-known/reverse-http"):
        raise ValidationError({"path": gettext("/.well-known/reverse-http is where internal nodes register.")})


class Service(Named):
    """A backend URL or a builtin, guarded by an execute ACL; none means the predefined ACL `Default`."""

    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="services")
    path = models.CharField(max_length=1024)
    methods = models.JSONField(default=list, blank=True, help_text=gettext_lazy("None given: every method."))
    backend = models.CharField(
        max_length=1024, blank=True, help_text=gettext_lazy("http://host:port/path or https://…")
    )
    builtin = models.CharField(max_length=16, blank=True, choices=Builtin.choices)
    execute_acl = models.ForeignKey(
        ACL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="services",
        verbose_name=gettext_lazy("execute ACL"),
    )
    identity_headers = models.JSONField(default=list, blank=True)
    forward_authorization = models.BooleanField(default=False)
    timeout = models.FloatField(
        default=60.0,
        validators=[MinValueValidator(0.1), MaxValueValidator(3600.0)],
        help_text=gettext_lazy("Seconds until the backend's first byte."),
    )
    trailers = models.JSONField(
        default=list, blank=True, help_text=gettext_lazy("Trailer fields that are let through.")
    )
    description = models.CharField(max_length=255, blank=True)

    class Meta(Named.Meta):
        constraints = [
            name_is_safe("service"),
            models.UniqueConstraint(
                fields=["node", "path"],
                name="service_path_once_per_node",
                violation_error_message=gettext_lazy("Another service of this node has this path."),
            ),
            models.CheckConstraint(
                condition=(Q(backend="") & ~Q(builtin="")) | (~Q(backend="") & Q(builtin="")),
                name="service_backend_or_builtin",
                violation_error_message=gettext_lazy("Give a backend or a builtin: exactly one of the two."),
            ),
            models.CheckConstraint(
                condition=Q(builtin__in=["", *Builtin.values]),
                name="service_builtin_is_known",
                violation_error_message=gettext_lazy("builtin is whoami or echo."),
            ),
        ]

    def clean(self) -> None:
        super().clean()
        check_path(self.path)
        if self.backend:
            try:
                parse_url(self.backend, ("http", "https"))
            except ValueError as error:
                raise ValidationError({"backend": English(error)}) from error
        _check_tokens("methods", self.methods, METHODS)
        _check_tokens("identity_headers", self.identity_headers, IDENTITY_HEADERS)
        if not isinstance(self.trailers, list) or not all(isinstance(name, str) for name in self.trailers):
            raise ValidationError({"trailers": gettext("Give a list of field names.")})


def _check_tokens(field: str, values: object, known: tuple[str, ...]) -> None:
    if not isinstance(values, list) or any(value not in known for value in values):
        raise ValidationError({field: gettext("Give a list of: {names}.").format(names=", ".join(known))})
    if len(set(values)) != len(values):
        raise ValidationError({field: gettext("Each may be named once.")})
