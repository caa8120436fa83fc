"""Mapping rules: whom certificates that are not mapped one by one run as."""

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext, gettext_lazy

from identity.core import mapping
from identity.core.names import ATTRIBUTE_KINDS, check_san_pattern, folded
from identity.models.base import Named, PortNames, name_is_safe
from identity.models.english import English
from identity.models.users import DEFAULT, User


class UserFrom(models.TextChoices):
    """Which part of the certificate names the user, in place of a user that the rule names."""

    CN = "cn", gettext_lazy("common name")
    SAN_DNS = "san_dns", gettext_lazy("DNS name")
    SAN_EMAIL = "san_email", gettext_lazy("e-mail address")
    SAN_URI = "san_uri", "URI"


class MappingRule(Named):
    """All conditions that are given must hold. Rules of one priority that name different users refuse."""

    priority = models.PositiveIntegerField(default=100, help_text=gettext_lazy("Lower numbers are tried first."))
    issuer = models.TextField(blank=True, help_text="Distinguished name of one stored authority: CN=…,O=…")
    issuer_spki_sha256 = models.CharField(
        max_length=64, blank=True, editable=False, help_text="Of the authority's key: what is compared."
    )
    subject = models.JSONField(
        default=dict, blank=True, help_text="Kind of attribute → its exact values, no more and no fewer."
    )
    san = models.CharField(
        max_length=255, blank=True, help_text=gettext_lazy("dns:*.partner.example; * is one DNS label")
    )
    user = models.ForeignKey(User, null=True, blank=True, on_delete=models.PROTECT, related_name="mapping_rules")
    user_from = models.CharField(max_length=16, blank=True, choices=UserFrom.choices)
    ports = PortNames(help_text=gettext_lazy("Where alone the rule counts; none: everywhere."))
    enabled = models.BooleanField(default=True)

    class Meta(Named.Meta):
        ordering = ["priority", "name"]
        constraints = [
            name_is_safe("mappingrule"),
            models.CheckConstraint(
                condition=Q(user__isnull=False, user_from="") | (Q(user__isnull=True) & ~Q(user_from="")),
                name="mappingrule_user_or_user_from",
                violation_error_message=gettext_lazy("Give a user or user_from: exactly one of the two."),
            ),
            models.CheckConstraint(
                condition=Q(user_from__in=["", *UserFrom.values]),
                name="mappingrule_user_from_is_known",
                violation_error_message=gettext_lazy("user_from is cn, san_dns, san_email or san_uri."),
            ),
        ]

    @property
    def value(self) -> mapping.Rule:
        """The rule as the value that decisions are made with."""
        return mapping.Rule(
            name=self.name,
            priority=self.priority,
            issuer_spki_sha256=self.issuer_spki_sha256,
            subject=tuple(
                (kind, tuple(sorted(folded(value) for value in values)))
                for kind, values in sorted(self.subject.items())
            ),
            san=self.san,
            user=self.user.name if self.user else None,
            user_from=self.user_from or None,
            ports=frozenset(self.ports),
        )

    def clean(self) -> None:
        super().clean()
        if self.user_id and self.user.name == DEFAULT:
            raise ValidationError(
                {"user": gettext("A rule cannot map to Default; leave the certificates unmapped instead.")}
            )
        if not isinstance(self.subject, dict) or not all(
            isinstance(values, list) and values and all(isinstance(value, str) and value for value in values)
            for values in self.subject.values()
        ):
            raise ValidationError({"subject": gettext("Give kinds of attributes with their values, like O: [Acme].")})
        if unknown := [k for k in self.subject if k not in ATTRIBUTE_KINDS and not k.replace(".", "").isdigit()]:
            raise ValidationError(
                {
                    "subject": gettext("{unknown} is no kind of attribute; {names} or a dotted OID are.").format(
                        unknown=unknown[0], names=", ".join(ATTRIBUTE_KINDS)
                    )
                }
            )
        if self.san:
            try:
                check_san_pattern(self.san)
            except ValueError as error:
                raise ValidationError({"san": English(error)}) from error
        if not (self.issuer or self.subject or self.san):
            raise ValidationError(gettext("A rule without a condition would map every certificate; give at least one."))
        self.issuer_spki_sha256 = self._find_issuer() if self.issuer else ""

    def _find_issuer(self) -> str:
        """The key of the one stored authority of that name; a name alone could be anybody's."""
        from identity.core.names import from_text
        from identity.models.truststores import TrustedCertificate

        try:
            wanted = from_text(self.issuer)
        except ValueError as error:
            raise ValidationError({"issuer": English(error)}) from error
        keys = {
            row.certificate.spki_sha256 for row in TrustedCertificate.objects.all() if row.certificate.subject == wanted
        }
        if not keys:
            raise ValidationError(
                {
                    "issuer": gettext("No truststore holds an authority {issuer}; add it to one first.").format(
                        issuer=self.issuer
                    )
                }
            )
        if len(keys) > 1:
            raise ValidationError(
                {
                    "issuer": gettext(
                        "{count} stored authorities with different keys are called {issuer}; "
                        "a rule must mean one. Remove the other from its truststore."
                    ).format(count=len(keys), issuer=self.issuer)
                }
            )
        return keys.pop()
