"""Groups: what ACLs allow and deny."""

from typing import Self

from django.db import models

from identity.models.base import Named, name_is_safe

EVERYBODY, ANONYMOUS, ADMINISTRATORS = "Everybody", "Anonymous", "Administrators"


class GroupQuerySet(models.QuerySet["Group"]):
    def assignable(self) -> Self:
        """Groups whose members are entered."""
        return self.exclude(name__in=[EVERYBODY, ANONYMOUS])


class Group(Named):
    """`Everybody` (every user) and `Anonymous` (`Default` alone) have members by definition, never by entry."""

    description = models.CharField(max_length=255, blank=True)
    predefined = models.BooleanField(default=False, editable=False)

    objects = GroupQuerySet.as_manager()

    class Meta(Named.Meta):
        constraints = [name_is_safe("group")]

    @property
    def has_fixed_members(self) -> bool:
        return self.name in (EVERYBODY, ANONYMOUS)
