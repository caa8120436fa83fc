"""Users: whom requests run as. Operators, who log in to the console, are another noun in another table."""

from typing import Self

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext, gettext_lazy

from identity.core.passwords import MAX_LENGTH, hash_password, verify_password
from identity.models.base import Named, PortNames, name_is_safe
from identity.models.groups import ANONYMOUS, EVERYBODY, Group

DEFAULT = "Default"


class UserQuerySet(models.QuerySet["User"]):
    def mappable(self) -> Self:
        """Users that a certificate may be mapped to: all but `Default`."""
        return self.exclude(name=DEFAULT)


class User(Named):
    """`Default` is nobody in particular: no password, no groups but Everybody and Anonymous, never deleted."""

    MIN_PASSWORD = 8

    enabled = models.BooleanField(
        default=True, help_text=gettext_lazy("A disabled user is refused, whatever credential is shown.")
    )
    groups = models.ManyToManyField(Group, blank=True, related_name="users")
    password_hash = models.CharField(max_length=255, blank=True, editable=False)
    ports = PortNames(
        help_text=gettext_lazy("Where alone the user may be used, by certificate or password; none: everywhere.")
    )
    description = models.CharField(max_length=255, blank=True)
    predefined = models.BooleanField(default=False, editable=False)

    objects = UserQuerySet.as_manager()

    class Meta(Named.Meta):
        constraints = [
            name_is_safe("user"),
            models.CheckConstraint(
                condition=~Q(name=DEFAULT) | Q(enabled=True, password_hash=""),
                name="user_default_is_nobody",
                violation_error_message=gettext_lazy(
                    "Default stands for callers without a credential: it has no password and "
                    "cannot be disabled. Keep it out with an ACL."
                ),
            ),
        ]

    def clean(self) -> None:
        super().clean()
        if self.name == DEFAULT and self.ports:
            raise ValidationError(
                {"ports": gettext("Default stands for callers without a credential; an ACL keeps them out.")}
            )

    def set_password(self, password: str) -> None:
        """Raises ValidationError for one that is too short, too long, or for `Default`. "" takes it away."""
        if password and not self.MIN_PASSWORD <= len(password) <= MAX_LENGTH:
            raise ValidationError(
                {
                    "password": gettext("A password has {min_password} to {max_length} characters.").format(
                        min_password=self.MIN_PASSWORD, max_length=MAX_LENGTH
                    )
                }
            )
        if password and self.name == DEFAULT:
            raise ValidationError({"password": gettext("Default cannot log in and has no password.")})
        self.password_hash = hash_password(password) if password else ""

    def has_password(self, password: str) -> bool:
        return verify_password(password, self.password_hash)

    def effective_groups(self) -> list[str]:
        """Names of all groups that count for this user, the fixed ones first."""
        fixed = [EVERYBODY, ANONYMOUS] if self.name == DEFAULT else [EVERYBODY]
        return fixed + sorted(group.name for group in self.groups.all())


def check_membership(user: User, groups: list[Group]) -> None:
    """Raises ValidationError unless each of `groups` may be given to `user` by entry."""
    if user.name == DEFAULT and groups:
        raise ValidationError({"groups": "Default is a member of Everybody and Anonymous alone."})
    if fixed := [group.name for group in groups if group.has_fixed_members]:
        raise ValidationError(
            {
                "groups": gettext("{names}: membership follows from the user and cannot be set.").format(
                    names=" and ".join(fixed)
                )
            }
        )
