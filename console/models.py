"""Operators: who logs in to the console, with what proof, and their sessions.

Whom requests run as is another noun (`identity.models.User`).
"""

import uuid
from datetime import datetime, timedelta
from typing import Any, Self

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.sessions.base_session import AbstractBaseSession
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy

from console.kept import Refusal, RefusalKind, RunState, SavedTest, ShownCertificate, TestResult, TestRun
from identity.models.base import name_validator

# Tables too, in a module of their own.
__all__ = ["Refusal", "RefusalKind", "RunState", "SavedTest", "ShownCertificate", "TestResult", "TestRun"]


class Role(models.TextChoices):
    """Each may do all that the one before may."""

    NONE = "none", gettext_lazy("No role (may log in, and sees nothing)")
    VIEWER = "viewer", gettext_lazy("Viewer (sees everything but secrets)")
    OPERATOR = "operator", gettext_lazy("Operator (configures nodes, ports, services; test invokes)")
    SECURITY = (
        "security",
        gettext_lazy("Security administrator (users, ACLs, certificates, mappings, stores)"),
    )
    OWNER = "owner", gettext_lazy("Owner (operators too)")


# What a permission takes at least. One table: pages, actions and the navigation read it, and tests walk it.
PERMISSIONS: dict[str, Role] = {
    "view": Role.VIEWER,
    "test_invoke": Role.OPERATOR,
    "change_gateway": Role.OPERATOR,
    "change_identity": Role.SECURITY,
    "change_operators": Role.OWNER,
    "change_authority": Role.OWNER,
}
# What a token alone has besides: it was made for what the pages ask again for the password before.
CONFIRMED = "confirmed"
_NAMES = {
    Role.NONE: gettext_lazy("No role"),
    Role.VIEWER: gettext_lazy("Viewer"),
    Role.OPERATOR: gettext_lazy("Operator"),
    Role.SECURITY: gettext_lazy("Security administrator"),
    Role.OWNER: gettext_lazy("Owner"),
}
_RANK = {role: rank for rank, role in enumerate(Role)}


# Whom the audit log names where it was no operator: commands, and what works by itself.
NOT_PEOPLE = frozenset(
    ("apply", "backup", "bundle", "console", "courier", "crl-fetch", "disown", "import-csv", "init",
     "operator-password", "prepare", "rescue", "restore", "rotate-authority", "rotate-master-key", "schedule",
     "undo", "worker")
)  # fmt: skip


def role_name(role: str) -> str:
    """Without what it may."""
    return str(_NAMES[Role(role)])


def _spent_until() -> "models.BigIntegerField[int, int]":
    words = "Microseconds since 1970: when all that was asked for is made up for; see console.pace"
    return models.BigIntegerField(default=0, db_default=0, editable=False, help_text=words)


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
    one_time_password = models.BooleanField(
        default=False,
        editable=False,
        help_text="Somebody else has set the password: it is good for choosing another one, and nothing else.",
    )
    single_sign_on = models.CharField(
        max_length=500,
        null=True,
        blank=True,
        unique=True,
        editable=False,
        help_text="Issuer and subject at the identity provider, with a blank between; none: logs in here.",
    )

    spent_until = _spent_until()

    objects = OperatorManager()

    USERNAME_FIELD = "username"

    class Meta:
        ordering = ["username"]
        constraints = [
            models.CheckConstraint(
                condition=Q(role__in=Role.values),
                name="operator_role_is_known",
                violation_error_message=gettext_lazy("role is none, viewer, operator, security or owner."),
            )
        ]

    def __str__(self) -> str:
        return self.username

    def clean(self) -> None:
        super().clean()
        if self.username.lower() in NOT_PEOPLE and not Operator.objects.filter(username=self.username).exists():
            words = gettext(
                "{username} is what the audit log calls one of Postern's own commands; take another name."
            ).format(username=self.username)
            raise ValidationError({"username": words})

    def may(self, permission: str) -> bool:
        """Whether this operator has `permission`, one of `PERMISSIONS`; an unknown one is a KeyError."""
        return self.is_active and _RANK[Role(self.role)] >= _RANK[PERMISSIONS[permission]]

    @property
    def has_second_factor(self) -> bool:
        return Authenticator.objects.filter(operator=self).exists() or self.passkeys.exists()


class LoginFailure(models.Model):
    """Wrong proofs, counted per account and address, per address, per account; a row is gone once its time is over."""

    key = models.CharField(max_length=255, unique=True, help_text="pair:…, address:…, account:… or token:…")
    count = models.PositiveIntegerField(default=0)
    first_at = models.DateTimeField()
    locked_until = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.key}: {self.count}"


class KnownAddress(models.Model):
    """From where an operator has logged in; whoever guesses elsewhere does not lock him out there."""

    operator = models.ForeignKey(Operator, on_delete=models.CASCADE, related_name="known_addresses")
    address = models.CharField(max_length=64)
    seen_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["operator", "address"], name="known_address_once")]

    def __str__(self) -> str:
        return f"{self.operator} from {self.address}"


class Session(AbstractBaseSession):
    """A login. Its row gone, it has ended: whoever has its cookie is nobody."""

    operator = models.ForeignKey(Operator, null=True, on_delete=models.CASCADE, related_name="sessions")
    seen_at = models.DateTimeField(null=True)

    @classmethod
    def get_session_store_class(cls) -> Any:
        from console.sessions import SessionStore

        return SessionStore


# --- second factors ---


class Authenticator(models.Model):
    """An app that shows codes (TOTP, RFC 6238)."""

    SEALED = ("secret",)

    operator = models.OneToOneField(Operator, primary_key=True, on_delete=models.CASCADE, related_name="authenticator")
    secret = models.BinaryField(editable=False)
    last_step = models.BigIntegerField(default=0, help_text="Of the last code that was taken: none is taken twice")
    added_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"authenticator app of {self.operator}"


class Passkey(models.Model):
    """A key pair in an operator's device; the device asks who he is before it uses it (WebAuthn)."""

    operator = models.ForeignKey(Operator, on_delete=models.CASCADE, related_name="passkeys")
    name = models.CharField(max_length=100)
    host = models.CharField(max_length=255, help_text="The console's host name that it was made for")
    credential_id = models.BinaryField(unique=True, max_length=1023)
    credential = models.BinaryField(help_text="Attested credential data: identifier and public key")
    counter = models.BigIntegerField(default=0)
    added_at = models.DateTimeField(auto_now_add=True)
    used_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["added_at"]

    def __str__(self) -> str:
        return self.name


class RecoveryCode(models.Model):
    """Each is good for one login without the second factor."""

    operator = models.ForeignKey(Operator, on_delete=models.CASCADE, related_name="recovery_codes")
    digest = models.CharField(max_length=64)
    used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"recovery code of {self.operator}"


class TokenQuerySet(models.QuerySet["Token"]):
    def standing(self, now: datetime) -> Self:
        """Those that are neither revoked nor over."""
        return self.filter(revoked_at=None, expires_at__gt=now)


class Token(models.Model):
    """What a program shows at the API in place of an operator. Only its digest is stored: it is shown once."""

    LONGEST = timedelta(days=366)
    LONGEST_CONFIRMED = timedelta(hours=1)  # of one that need not be asked again

    operator = models.ForeignKey(Operator, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=100, validators=[name_validator], help_text=gettext_lazy("What it is for."))
    scopes = models.JSONField(help_text="Permissions, of which it has those that its operator has too")
    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256, hex")
    made_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    used_at = models.DateTimeField(null=True, blank=True)
    used_from = models.GenericIPAddressField(null=True, blank=True)
    spent_until = _spent_until()

    objects = TokenQuerySet.as_manager()

    class Meta:
        ordering = ["-made_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["operator", "name"],
                condition=Q(revoked_at=None),
                name="token_once_by_name",
                violation_error_message=gettext_lazy(
                    "You have a token of this name; revoke it, or choose another name."
                ),
            )
        ]

    def __str__(self) -> str:
        return self.name

    def may(self, permission: str) -> bool:
        """What it was made for, as long as its operator may do it."""
        return self.operator.may(permission) and permission in self.scopes

    @property
    def is_confirmed(self) -> bool:
        return CONFIRMED in self.scopes

    def is_over(self, now: datetime) -> bool:
        return self.expires_at <= now


class ExpiryNotice(models.Model):
    """That something ends was told, or is being told, once for each threshold and channel, by whichever process."""

    key = models.CharField(max_length=255, help_text="What ends, and when")
    days = models.PositiveIntegerField(help_text="The threshold")
    channel = models.CharField(max_length=16, help_text="mail or webhook")
    claim = models.UUIDField(help_text="Of the process that tells it")
    claimed_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "days", "channel"], name="expirynotice_once")]
        indexes = [models.Index(fields=["claim"], name="expirynotice_by_claim")]

    def __str__(self) -> str:
        return f"{self.key}, {self.days} days, {self.channel}"


class JobState(models.TextChoices):
    WAITING = "waiting", gettext_lazy("waiting")
    RUNNING = "running", gettext_lazy("running")
    CHECKED = "checked", gettext_lazy("checked")
    DONE = "done", gettext_lazy("done")
    FAILED = "failed", gettext_lazy("failed")


class JobMode(models.TextChoices):
    CHECK = "check", gettext_lazy("only look")
    ALL = "all", gettext_lazy("all rows or none")
    GOOD = "good", gettext_lazy("the good rows")


class JobQuerySet(models.QuerySet["Job"]):
    def claim(self, now: datetime) -> "Job | None":
        """The next that waits, and nobody else's from now on; one whose worker has died waits again."""
        lost = self.filter(state=JobState.RUNNING, updated_at__lt=now - Job.LEASE)
        for pk in [*lost.values_list("pk", flat=True), *self.waiting().values_list("pk", flat=True)[:5]]:
            free = self.filter(pk=pk).filter(
                Q(state=JobState.WAITING) | Q(state=JobState.RUNNING, updated_at__lt=now - Job.LEASE)
            )
            if free.update(state=JobState.RUNNING, updated_at=now, done=0, problem=""):
                return self.get(pk=pk)
        return None

    def waiting(self) -> Self:
        return self.filter(state=JobState.WAITING).order_by("created_at")

    def imports(self) -> Self:
        return self.filter(undoes=None)

    def over(self, now: datetime) -> Self:
        """Those that nobody comes back to."""
        return self.filter(updated_at__lt=now - Job.KEPT).exclude(state=JobState.RUNNING)


class Job(models.Model):
    """An import, looked at first, then carried out; or the undoing of a large change. By whichever worker is free."""

    LEASE = timedelta(minutes=10)  # without a sign of life after which its worker counts as dead
    KEPT = timedelta(days=7)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=32, help_text="users, groups or certificates; undo")
    filename = models.CharField(max_length=255)
    actor = models.CharField(max_length=255)
    address = models.GenericIPAddressField(null=True)
    mode = models.CharField(max_length=8, choices=JobMode.choices, default=JobMode.CHECK)
    state = models.CharField(max_length=8, choices=JobState.choices, default=JobState.WAITING)
    phase = models.CharField(max_length=32, blank=True)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    counts = models.JSONField(default=dict)
    shown = models.JSONField(default=list, help_text="The first outcomes of each kind")
    refused = models.TextField(blank=True, help_text="CSV of the rows that are refused, each with its error")
    problem = models.TextField(blank=True)
    confirmed = models.BooleanField(default=True, help_text="Whether it may do what is asked again for before")
    undoes = models.BigIntegerField(null=True, help_text="Number of the change that is undone")
    revision = models.BigIntegerField(null=True)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["state", "updated_at"], name="job_by_state")]

    def __str__(self) -> str:
        return f"{self.kind} from {self.filename}"

    @property
    def in_progress(self) -> bool:
        return self.state in (JobState.WAITING, JobState.RUNNING)


class JobPart(models.Model):
    """A piece of the file that a job is about, compressed; gone when the job is done."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="parts")
    number = models.PositiveIntegerField()
    data = models.BinaryField()

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="jobpart_once")]

    def __str__(self) -> str:
        return f"part {self.number} of {self.job_id}"
