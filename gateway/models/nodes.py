"""Nodes: the roles that relay processes play."""

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext, gettext_lazy

from identity.models.base import Named, name_is_safe


class Role(models.TextChoices):
    EDGE = "edge", gettext_lazy("Edge (in the DMZ)")
    INTERNAL = "internal", gettext_lazy("Internal (behind the inner firewall)")
    STANDALONE = "standalone", gettext_lazy("Standalone")


class Node(Named):
    """One relay's place in the topology."""

    role = models.CharField(max_length=16, choices=Role.choices)
    description = models.CharField(max_length=255, blank=True)

    class Meta(Named.Meta):
        constraints = [
            name_is_safe("node"),
            models.CheckConstraint(
                condition=Q(role__in=Role.values),
                name="node_role_is_known",
                violation_error_message=gettext_lazy("role is edge, internal or standalone."),
            ),
        ]

    def clean(self) -> None:
        super().clean()
        # Its certificate says what it is called, and by its role it dials or is dialled.
        enrolled = Node.objects.filter(pk=self.pk, enrolment__serial__gt="").first()
        for field in ("name", "role"):
            if enrolled is not None and getattr(enrolled, field) != getattr(self, field):
                words = gettext(
                    "{enrolled} runs on a machine of its own, which knows it so: disown the machine first."
                ).format(enrolled=enrolled.name)
                raise ValidationError({field: words})
