"""Changes that go back by themselves unless somebody confirms them: who locked himself out could not do it by hand."""

from typing import Self

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy

from gateway.models.audit import ChangeSet


class State(models.TextChoices):
    WAITING = "waiting", gettext_lazy("waits to be confirmed")
    KEPT = "kept", gettext_lazy("confirmed")
    WENT_BACK = "went_back", gettext_lazy("went back")
    FAILED = "failed", gettext_lazy("could not go back")


class UnconfirmedQuerySet(models.QuerySet["Unconfirmed"]):
    def waiting(self) -> Self:
        return self.filter(state=State.WAITING)

    def due(self) -> Self:
        return self.waiting().filter(due__lte=timezone.now())


class Unconfirmed(models.Model):
    """What becomes of one change set. Whoever settles it does so by a conditional update: of two one counts."""

    change_set = models.OneToOneField(ChangeSet, primary_key=True, on_delete=models.PROTECT, related_name="unconfirmed")
    due = models.DateTimeField(help_text="When it goes back")
    state = models.CharField(max_length=16, choices=State.choices, default=State.WAITING)
    reason = models.TextField(blank=True, help_text="Why it could not go back")

    objects = UnconfirmedQuerySet.as_manager()

    class Meta:
        ordering = ["due"]
        indexes = [models.Index(fields=["state", "due"], name="unconfirmed_by_due")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(state__in=State.values),
                name="unconfirmed_state_is_known",
                violation_error_message=gettext_lazy("state is waiting, kept, went_back or failed."),
            )
        ]

    def __str__(self) -> str:
        return f"change {self.change_set_id} {self.get_state_display()}"
