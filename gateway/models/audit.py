"""The append-only record of every change, and the revision that each made."""

from typing import Any, NoReturn

from django.db import models
from django.utils.translation import gettext_lazy


class AppendOnlyError(RuntimeError):
    """Somebody tried to change or delete what was recorded."""


class AppendOnly(models.Model):
    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnlyError("the audit log is never changed")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise AppendOnlyError("the audit log is never shortened")


class ChangeSet(AppendOnly):
    """What was changed in one transaction. Its id is the revision of the configuration from then on."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(auto_now_add=True, db_index=True)
    actor = models.CharField(max_length=255, help_text="An operator's name, or the command that did it")
    address = models.GenericIPAddressField(null=True, blank=True)
    message = models.CharField(max_length=1000)
    configures = models.BooleanField(default=True, help_text="Whether it made a revision; a test invoke does not.")

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["configures", "id"], name="changeset_by_revision")]

    def __str__(self) -> str:
        return f"revision {self.id}: {self.message}"


class Action(models.TextChoices):
    ADDED = "added", gettext_lazy("added")
    CHANGED = "changed", gettext_lazy("changed")
    REMOVED = "removed", gettext_lazy("removed")
    TESTED = "tested", gettext_lazy("tested")
    LOGGED_IN = "logged_in", gettext_lazy("logged in")


class Change(AppendOnly):
    """One object before and after, whole; secrets as their fingerprints."""

    id = models.BigAutoField(primary_key=True)
    change_set = models.ForeignKey(ChangeSet, on_delete=models.PROTECT, related_name="changes")
    action = models.CharField(max_length=16, choices=Action.choices)
    kind = models.CharField(max_length=32, help_text="As in the configuration file: ports, users, …")
    object_id = models.CharField(max_length=36, blank=True)
    name = models.CharField(max_length=255)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["kind", "name"], name="change_by_object"),
                   models.Index(fields=["kind", "object_id"], name="change_by_key")]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.kind} {self.name} {self.action}"


class Link(AppendOnly):
    """A change set's place in the chain. Written last, when all that it is computed from is there.

    No two can stand on the same hash: two writers never fork the chain, whatever the database lets in at once.
    """

    change_set = models.OneToOneField(ChangeSet, primary_key=True, on_delete=models.PROTECT, related_name="link")
    previous = models.CharField(max_length=64, unique=True, help_text="The hash that it stands on")
    hash = models.CharField(max_length=64, unique=True)

    class Meta:
        ordering = ["change_set"]

    def __str__(self) -> str:
        return f"{self.change_set_id}: {self.hash}"


class Head(models.Model):
    """Where the chain ends, sealed: who takes its last links away cannot say that it ended before them."""

    SEALED = ("end",)

    id = models.PositiveSmallIntegerField(primary_key=True, editable=False)
    end = models.BinaryField(editable=False, help_text="Number and hash of the last change set, sealed")

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="head_is_one")]

    def __str__(self) -> str:
        return "the end of the chain"


class KeptSecret(models.Model):
    """A secret that a change replaced or removed, sealed, so that undoing it brings back the very same."""

    SEALED = ("value",)

    # The change's id and the column's name: what is sealed opens as the secret of this change alone.
    id = models.CharField(primary_key=True, max_length=100, editable=False)
    change = models.ForeignKey(Change, on_delete=models.PROTECT, related_name="secrets")
    column = models.CharField(max_length=64)
    value = models.BinaryField(editable=False)

    def __str__(self) -> str:
        return f"{self.column} of change {self.change_id}"
