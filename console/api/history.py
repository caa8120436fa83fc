"""The audit log: change sets, the last ones first; undoing one; keeping or taking back one that waits."""

from typing import Any

from django.db import transaction
from django.db.models import Count, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from console.api import confirming
from console.api.changing import DRY_RUN, SHOWN, change_of, outcome
from console.api.operations import BASE, Answer, Call, Operation
from console.api.paging import PAGING, TEXT, page
from console.api.problems import FieldError, Refused, not_found
from console.api.reading import Query
from console.api.schemas import COUNT, MOMENT, component, page_of, shape
from console.api.schemas import TEXT as STRING
from console.jobs import take_undo
from console.models import Job, JobState
from console.views.changes import KINDS
from console.views.undo import MOST, beyond_a_worker, kinds_of, permissions_of
from gateway import unconfirmed
from gateway.models import Change, ChangeSet
from gateway.topology.undo import CannotUndo, undo

KIND = Query("kind", {"enum": list(KINDS)}, "Only what touches objects of this kind.")
ACTOR = Query("actor", {"type": "string", "maxLength": 255}, "Only what this operator or command did.")

# Beside the rows, not by a join: only those of the page are counted.
_COUNT = Coalesce(
    Subquery(
        Change.objects.filter(change_set=OuterRef("pk"))
        .order_by()
        .values("change_set")
        .annotate(n=Count("pk"))
        .values("n")
    ),
    0,
)


def listed(call: Call) -> Answer:
    rows = ChangeSet.objects.annotate(number_of_changes=_COUNT)
    if text := call.query.get("q", "").strip():
        named = Change.objects.filter(name__icontains=text).values("change_set")
        rows = rows.filter(Q(message__icontains=text) | Q(pk__in=named))
    if "kind" in call.query:
        rows = rows.filter(pk__in=Change.objects.filter(kind=call.query["kind"]).values("change_set"))
    if "actor" in call.query:
        rows = rows.filter(actor=call.query["actor"])
    return Answer(page(rows, call.query, "-id", lambda row: _told(call, row, [], row.number_of_changes)))


def one(call: Call) -> Answer:
    row = _row(call)
    return Answer(_whole(call, row))


def undone(call: Call) -> Answer:
    row = _row(call)
    for permission in sorted(permissions_of(kinds_of(row))):
        call.require(permission)
    if row.changes.count() > MOST:
        return _by_a_worker(call, row)
    try:
        with transaction.atomic():
            recorder = undo(row, call.actor, call.address, dry_run=call.dry_run, note=call.message(row.message))
            if not call.dry_run:
                confirming.require_for(call, recorder.changes)
    except CannotUndo as error:
        raise _in_the_way(error) from error
    return Answer(outcome(call, recorder.changes, recorder.revision))


def _by_a_worker(call: Call, row: ChangeSet) -> Answer:
    """It takes as long as the import did that is undone."""
    if words := beyond_a_worker(row):
        raise Refused(409, "too_many", words)
    if call.dry_run:
        raise Refused(409, "too_many", f"Of more than {MOST} objects it is not told one by one what would come of it.")
    confirming.require_for_undoing(call, row)
    job = take_undo(row, call.actor, call.address)
    return Answer(_undoing(job), 202, {"Location": f"/{BASE}/undoings/{job.pk}"})


def undoing(call: Call) -> Answer:
    job = Job.objects.exclude(undoes=None).filter(pk=call.args["id"]).first()
    if job is None:
        raise not_found("There is no undoing of this number; they are forgotten after a week.")
    return Answer(_undoing(job))


def _undoing(job: Job) -> dict[str, Any]:
    return {
        "id": str(job.pk),
        "number": job.undoes,
        "actor": job.actor,
        "at": job.created_at.isoformat(),
        "state": job.state,
        "done": job.done,
        "total": job.total,
        "problem": job.problem,
        "revision": job.revision,
    }


def kept(call: Call) -> Answer:
    row = _row(call)
    if not unconfirmed.keep(row.pk, call.actor, call.address):
        raise _waits_no_more(row)
    return Answer(_whole(call, row))


def taken_back(call: Call) -> Answer:
    row = _row(call)
    try:
        if not unconfirmed.take_back(row.pk, call.actor, call.address):
            raise _waits_no_more(row)
    except CannotUndo as error:
        raise _in_the_way(error) from error
    return Answer(_whole(call, row))


def _row(call: Call) -> ChangeSet:
    row = ChangeSet.objects.filter(pk=call.args["number"]).first()
    if row is None:
        raise not_found("There is no change of this number.")
    return row


def _whole(call: Call, row: ChangeSet) -> dict[str, Any]:
    """With the first of its changes: an import has 100,000."""
    return _told(call, row, list(row.changes.all()[:SHOWN]), row.changes.count())


def _told(call: Call, row: ChangeSet, changes: list[Change], count: int) -> dict[str, Any]:
    return {
        "number": row.pk,
        "at": row.at.isoformat(),
        "actor": row.actor,
        "address": row.address,
        "message": row.message,
        "configures": row.configures,
        "changes": [change_of(each, call.token.may) for each in changes],
        "more": count - len(changes),
    }


def _in_the_way(error: CannotUndo) -> Refused:
    errors = [FieldError("", reason) for reason in error.reasons]
    return Refused(409, "in_the_way", "Something stands in the way; nothing was changed.", errors)


def _waits_no_more(row: ChangeSet) -> Refused:
    return Refused(409, "waits_no_more", f"Change {row.pk} does not wait to be confirmed.")


_MESSAGE = ("Change-Message",)
_SET, _GATEWAY = component("change_set"), ("view", "change_gateway")
_UNDOING = shape(
    id=STRING, number=COUNT, actor=STRING, at=MOMENT, state={"enum": JobState.values}, done=COUNT, total=COUNT,
    problem=STRING, revision={"type": ["integer", "null"]},
)  # fmt: skip
OPERATIONS = [
    Operation("changes_list", "GET", "/changes/", "The audit log, without what each change set changed",
              listed, ("view",), {200: page_of(_SET)}, "changes", (TEXT, KIND, ACTOR, *PAGING)),
    Operation("changes_get", "GET", "/changes/{number}", "One change set: each object before and after",
              one, ("view",), {200: _SET}, "changes", refusals=(404,)),
    Operation("changes_undo", "POST", "/changes/{number}/undo", "Undo it by a new one; takes what it took itself",
              undone, ("view",), {200: component("outcome"), 202: _UNDOING}, "changes", (DRY_RUN,), _MESSAGE,
              refusals=(404, 409), costly=True),
    Operation("undoings_get", "GET", "/undoings/{id}", "How far a worker is that undoes a large change",
              undoing, ("view",), {200: _UNDOING}, "undoings", refusals=(404,)),
    Operation("changes_keep", "POST", "/changes/{number}/keep", "Confirm a change that would go back by itself",
              kept, _GATEWAY, {200: _SET}, "changes", refusals=(404, 409)),
    Operation("changes_take_back", "POST", "/changes/{number}/take-back", "Let it go back now",
              taken_back, _GATEWAY, {200: _SET}, "changes", refusals=(404, 409)),
]  # fmt: skip
