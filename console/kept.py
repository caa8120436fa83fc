"""What the console keeps besides the configuration: refusals that nodes told of, tests, and how they went.

Nothing is decided by any of it.
"""

import uuid
from datetime import datetime, timedelta
from typing import Any, Self

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy

from identity.models import sealing
from identity.models.base import name_validator

# --- what nodes refused ---


class RefusalKind(models.TextChoices):
    REQUEST = "request", gettext_lazy("request")
    HANDSHAKE = "handshake", gettext_lazy("handshake")


class RefusalQuerySet(models.QuerySet["Refusal"]):
    def requests(self) -> Self:
        """One for each request, however many nodes told of it."""
        return self.filter(kind=RefusalKind.REQUEST, head=True)

    def of_strangers(self) -> Self:
        """Of those with a certificate about which there is something to decide: shown, and not let in for it."""
        return self.filter(proven=True)


class Refusal(models.Model):
    """A request or a handshake that a node refused, as that node told it."""

    node = models.CharField(max_length=255)
    source = models.CharField(max_length=32, help_text="The ring of the node's worker that it was read from")
    number = models.BigIntegerField(help_text="In that ring: nothing is stored twice, whoever reads it")
    kind = models.CharField(max_length=16, choices=RefusalKind.choices)
    at = models.DateTimeField()
    trace_id = models.CharField(max_length=32, blank=True, db_index=True)
    inner = models.BooleanField(default=False, help_text="It came through a tunnel: the node before may tell of it too")
    head = models.BooleanField(default=True, help_text="The first node's word on it, as far as it is known")
    test = models.BooleanField(default=False)
    port = models.CharField(max_length=255)
    peer = models.CharField(max_length=64)
    method = models.CharField(max_length=32, blank=True)
    path = models.TextField(blank=True)
    status = models.PositiveSmallIntegerField(default=0)
    reason = models.CharField(max_length=64, blank=True)
    cause = models.CharField(max_length=64, blank=True, help_text="The reason of the last node that it came to")
    words = models.TextField(blank=True)
    user = models.CharField(max_length=255, blank=True)
    certificate = models.CharField(max_length=64, blank=True, help_text="SHA-256 of what was shown")
    subject = models.TextField(blank=True)
    issuer = models.TextField(blank=True)
    proven = models.BooleanField(default=False, help_text="A certificate was shown here, and refused for what it is")
    lanes = models.JSONField(default=list)

    objects = RefusalQuerySet.as_manager()

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [models.UniqueConstraint(fields=["node", "source", "number"], name="refusal_once")]
        indexes = [
            models.Index(fields=["kind", "head", "test", "-at"], name="refusal_by_time"),
            models.Index(fields=["cause", "-at"], name="refusal_by_cause"),
            models.Index(fields=["user", "-at"], name="refusal_by_user"),
            models.Index(fields=["port", "-at"], name="refusal_by_port"),
            models.Index(fields=["certificate", "-at"], name="refusal_by_certificate"),
            models.Index(fields=["certificate", "id"], condition=Q(proven=True), name="refusal_of_strangers"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} refused by {self.node}"


class ShownCertificate(models.Model):
    """What callers showed who were refused: leaf first, as it came. To be mapped, trusted or blocked from there."""

    sha256 = models.CharField(max_length=64, primary_key=True)
    pem = models.TextField()
    seen_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"…{self.sha256[-8:]}"


# --- saved tests ---


class SavedTest(models.Model):
    """A test invoke that is kept, and what is expected to come of it.

    An operator's tool and no configuration: what it names, it names as a caller would, by name. A port or a
    certificate that is gone makes it fail, and does not take it along.
    """

    SEALED = ("password",)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=255, unique=True, validators=[name_validator])
    port = models.CharField(max_length=255)
    method = models.CharField(max_length=16)
    path = models.TextField()
    headers = models.JSONField(default=list)
    body = models.TextField(blank=True)
    credential = models.CharField(max_length=16)
    certificate = models.CharField(max_length=255, blank=True, help_text="Name of the certificate, or of the keystore")
    pem = models.TextField(blank=True)
    username = models.CharField(max_length=255, blank=True)
    password = models.BinaryField(default=b"", editable=False)
    expected_status = models.PositiveSmallIntegerField(validators=[MinValueValidator(100), MaxValueValidator(599)])
    expected_user = models.CharField(max_length=255, blank=True)
    expected_reason = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def set_password(self, password: str) -> None:
        sealing.seal(self, "password", password.encode())

    def open_password(self) -> str:
        """Raises VaultError."""
        return sealing.open_sealed(self, "password").decode()

    def record(self) -> dict[str, Any]:
        """For the audit log: no password, body, header's value or query."""
        who = self.certificate or self.username
        return {
            "name": self.name,
            "request": f"{self.method} {self.path.partition('?')[0]} at {self.port}",
            "as": f"{self.credential} {who}".strip(),
            "headers": [name for name, _ in self.headers],
            "expected": self.expected,
        }

    @property
    def expected(self) -> str:
        """`403 acl_denied as alice`"""
        user = f"as {self.expected_user}" if self.expected_user else ""
        return " ".join(part for part in (str(self.expected_status), self.expected_reason, user) if part)


class RunState(models.TextChoices):
    WAITING = "waiting", gettext_lazy("waiting")
    RUNNING = "running", gettext_lazy("running")
    DONE = "done", gettext_lazy("done")


class TestRunQuerySet(models.QuerySet["TestRun"]):
    def claim(self, now: datetime) -> "TestRun | None":
        """The next that waits, and nobody else's from now on; one whose worker has died is run again."""
        free = Q(state=RunState.WAITING) | Q(state=RunState.RUNNING, updated_at__lt=now - TestRun.LEASE)
        for pk in list(self.filter(free).order_by("started_at").values_list("pk", flat=True)[:5]):
            if self.filter(free, pk=pk).update(state=RunState.RUNNING, updated_at=now):
                return self.get(pk=pk)
        return None


class TestRun(models.Model):
    """All saved tests, sent one after the other by whichever worker is free."""

    __test__ = False  # for pytest, which takes it for a test by its name
    LEASE = timedelta(minutes=5)
    KEPT = 50

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    actor = models.CharField(max_length=255)
    address = models.GenericIPAddressField(null=True)
    state = models.CharField(max_length=8, choices=RunState.choices, default=RunState.WAITING)
    revision = models.BigIntegerField(help_text="Of the configuration, when it was asked for")
    total = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)

    objects = TestRunQuerySet.as_manager()

    class Meta:
        ordering = ["-started_at"]

    def __str__(self) -> str:
        return f"run of {self.started_at:%Y-%m-%d %H:%M:%S}"

    @property
    def in_progress(self) -> bool:
        return self.state != RunState.DONE


class TestResult(models.Model):
    """What came of one test in one run."""

    __test__ = False

    run = models.ForeignKey(TestRun, on_delete=models.CASCADE, related_name="results")
    test = models.ForeignKey(SavedTest, null=True, on_delete=models.SET_NULL, related_name="results")
    name = models.CharField(max_length=255)
    passed = models.BooleanField()
    status = models.PositiveSmallIntegerField(null=True)
    reason = models.CharField(max_length=64, blank=True)
    user = models.CharField(max_length=255, blank=True)
    words = models.TextField(blank=True, help_text="What is not as expected")
    seconds = models.FloatField(null=True)
    trace_id = models.CharField(max_length=32, blank=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["run", "test"], name="testresult_once")]

    def __str__(self) -> str:
        return f"{self.name}: {self.outcome}"

    @property
    def outcome(self) -> str:
        """`200 as alice`, `403 acl_denied`, or why there was no answer."""
        if self.status is None:
            return "no answer"
        user = f"as {self.user}" if self.user else ""
        return " ".join(part for part in (str(self.status), self.reason, user) if part)
