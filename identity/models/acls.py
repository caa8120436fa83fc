"""ACLs: which groups may execute."""

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext

from identity.models.base import Named, name_is_safe
from identity.models.groups import Group


class ACL(Named):
    """Denied groups beat allowed ones; a group in neither is denied."""

    description = models.CharField(max_length=255, blank=True)
    allowed = models.ManyToManyField(Group, blank=True, related_name="allowing_acls")
    denied = models.ManyToManyField(Group, blank=True, related_name="denying_acls")
    predefined = models.BooleanField(default=False, editable=False)

    class Meta(Named.Meta):
        verbose_name = "ACL"
        verbose_name_plural = "ACLs"
        constraints = [name_is_safe("acl")]


def check_acl_groups(allowed: list[Group], denied: list[Group]) -> None:
    """Raises ValidationError where one group is on both lists: denied would win, which reads like an oversight."""
    if both := sorted({group.name for group in allowed} & {group.name for group in denied}):
        raise ValidationError(
            {
                "denied": gettext("{names}: allowed and denied at once; keep one of the two.").format(
                    names=", ".join(both)
                )
            }
        )
