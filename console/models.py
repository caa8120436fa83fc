"""Operators: who logs in to the console. Whom requests run as is another noun (`identity.models.User`)."""

from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models
from django.db.models import Q

from identity.models.base import name_validator


class Role(models.TextChoices):
    """Each may do all that the one before may."""

    VIEWER = "viewer", "Viewer (sees everything but secrets)"
    OPERATOR = "operator", "Operator (configures nodes, ports, services; test invokes)"
    SECURITY = "security", "Security administrator (users, ACLs, certificates, mappings, stores)"
    OWNER = "owner", "Owner (operators too)"


# What a permission takes at least. One table: pages, actions and the navigation read it, and tests walk it.
PERMISSIONS: dict[str, Role] = {
    "view": Role.VIEWER,
    "test_invoke": Role.OPERATOR,
    "change_gateway": Role.OPERATOR,
    "change_identity": Role.SECURITY,
    "change_operators": Role.OWNER,
}
_RANK = {role: rank for rank, role in enumerate(Role)}


class OperatorManager(BaseUserManager["Operator"]):
    def create_operator(self, username: str, password: str, role: Role = Role.VIEWER, **more: Any) -> "Operator":
        operator = self.model(username=username, role=role, **more)
        operator.set_password(password)
        operator.full_clean()
        operator.save(using=self._db)
        return operator


class Operator(AbstractBaseUser):
    username = models.CharField(max_length=150, unique=True, validators=[name_validator])
    full_name = models.CharField(max_length=255, blank=True)
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.VIEWER)
    is_active = models.BooleanField("active", default=True)

    objects = OperatorManager()

    USERNAME_FIELD = "username"

    class Meta:
        ordering = ["username"]
        constraints = [
            models.CheckConstraint(
                condition=Q(role__in=Role.values),
                name="operator_role_is_known",
                violation_error_message="role is viewer, operator, security or owner.",
            )
        ]

    def __str__(self) -> str:
        return self.username

    def may(self, permission: str) -> bool:
        """Whether this operator has `permission`, one of `PERMISSIONS`; an unknown one is a KeyError."""
        return self.is_active and _RANK[Role(self.role)] >= _RANK[PERMISSIONS[permission]]


class LoginFailure(models.Model):
    """Wrong passwords, counted per account and per address; a row is gone once its time is over."""

    key = models.CharField(max_length=255, unique=True, help_text="account:NAME or address:IP")
    count = models.PositiveIntegerField(default=0)
    first_at = models.DateTimeField()
    locked_until = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.key}: {self.count}"
