"""Imports, and the undoing of large changes, as jobs. A file is taken, looked at, and carried out when somebody has
seen what it would do.

The rows of a job tell how far it is; whichever worker is free works on it. What it changes and that it is done are
written in one transaction, so that a job whose worker died is done again or was done, and never both.
"""

import contextlib
import logging
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any

from django.core.exceptions import ValidationError
from django.db import DatabaseError, transaction
from django.utils import timezone
from django.utils.translation import gettext

from console.grave import KINDS, any_grave
from console.models import Job, JobMode, JobPart, JobState
from console.progress import told_of
from console.words import grouped
from gateway.bulk import sheets
from gateway.bulk.imports import IMPORTERS, Importer, Outcome, Plan, RowError, import_rows
from gateway.bulk.sheets import SheetError
from gateway.models import Action, Change, ChangeSet
from gateway.topology.undo import CannotUndo, undo

log = logging.getLogger(__name__)

PART = 1024 * 1024  # bytes of a file in one row
MOST_AT_ONCE = 20  # imports that are not carried out yet: each keeps its file
UNDO = "undo"  # the kind of a job that is no import
IN_MEMORY = 8 * 1024 * 1024  # bytes of a file; more goes to a temporary one


def take(kind: str, filename: str, chunks: Iterable[bytes], actor: str, address: str | None) -> Job:
    """Store the file; a worker looks at it next. Raises SheetError: it is too large, or too many wait already."""
    if Job.objects.imports().exclude(state__in=[JobState.DONE, JobState.FAILED]).count() >= MOST_AT_ONCE:
        words = gettext("{count} imports wait to be carried out or thrown away; settle some of them first.")
        raise SheetError(words.format(count=MOST_AT_ONCE))
    size = 0
    with transaction.atomic():
        job = Job.objects.create(kind=kind, filename=(filename or "upload")[:255], actor=actor, address=address)
        for number, chunk in enumerate(chunks):
            size += len(chunk)
            if size > sheets.MAX_FILE:
                words = gettext("The file has more than {limit} bytes, and no more are taken. Split it.")
                raise SheetError(words.format(limit=grouped(sheets.MAX_FILE)))
            JobPart.objects.create(job=job, number=number, data=zlib.compress(chunk, 1))
    return job


def go_on(job: Job, mode: JobMode, actor: str, address: str | None, *, confirmed: bool = True) -> bool:
    """Have what was looked at carried out; False where it is not there to be carried out, or somebody was faster.

    `confirmed`: whether it may do what is asked again for before (`console.grave`).
    """
    seen = Job.objects.filter(pk=job.pk, state=JobState.CHECKED)
    told = {"mode": mode, "actor": actor, "address": address, "confirmed": confirmed}
    return bool(seen.update(state=JobState.WAITING, updated_at=timezone.now(), **told))


def throw_away(job: Job) -> bool:
    """Throw the file away, nothing of it being imported; False where it is being worked on, or is done."""
    return bool(Job.objects.imports().filter(pk=job.pk, state__in=[JobState.CHECKED, JobState.FAILED]).delete()[0])


def take_undo(made: ChangeSet, actor: str, address: str | None) -> Job:
    """Have a worker undo it; the job that is at it already, where there is one."""
    with transaction.atomic():
        for job in Job.objects.filter(undoes=made.pk):
            if job.in_progress:
                return job
        return Job.objects.create(
            kind=UNDO, filename=f"change {made.pk}", undoes=made.pk, mode=JobMode.ALL, actor=actor, address=address,
            total=made.changes.count(),
        )  # fmt: skip


def work() -> bool:
    """Work on one job that waits; False where there is none."""
    now = timezone.now()
    Job.objects.over(now).delete()
    job = Job.objects.claim(now)
    if job is None:
        return False
    try:
        _undo(job) if job.kind == UNDO else _work_on(job)
    except (SheetError, RowError, CannotUndo) as error:
        _fail(job, str(error))
    except ValidationError as error:
        _fail(job, f"Nothing was changed: {' '.join(error.messages)}")
    except DatabaseError as error:
        log.exception("job %s", job.pk)
        _fail(job, f"Nothing was changed; the database refuses it: {str(error).partition(chr(10))[0]}")
    except Exception:  # one job must not keep the others from being worked on
        log.exception("job %s", job.pk)
        _fail(job, "Nothing was changed: something went wrong here; what it was is in the worker's log.")
    return True


def _fail(job: Job, problem: str) -> None:
    Job.objects.filter(pk=job.pk).update(state=JobState.FAILED, problem=problem, updated_at=timezone.now())
    JobPart.objects.filter(job=job).delete()  # it may be refused for what nobody should keep


def _work_on(job: Job) -> None:
    importer = IMPORTERS[job.kind]()
    with _file(job) as file:
        _progress(job, "counting", 0)
        total = len([None for _ in sheets.read(file, importer.columns, importer.needed)])
        file.seek(0)
        Job.objects.filter(pk=job.pk).update(total=total)
        rows = sheets.read(file, importer.columns, importer.needed)
        plan = importer.plan(rows, lambda done: _progress(job, "looking at each row", done))
    if job.mode == JobMode.CHECK:
        Job.objects.filter(pk=job.pk).update(state=JobState.CHECKED, **_told(plan, importer))
        return
    _progress(job, "writing", 0)
    job.total = plan.total
    finished: dict[str, Any] = {"state": JobState.DONE, "updated_at": timezone.now(), **_told(plan, importer)}
    what = f"{len(plan.added)} added, {len(plan.changed)} changed: {job.kind} imported from {job.filename}"
    with told_of(job) as progress:
        import_rows(
            plan,
            importer,
            actor=job.actor,
            message=what,
            address=job.address,
            only_good=job.mode == JobMode.GOOD,
            progress=progress,
            also=lambda revision: _finish_import(job, finished | {"revision": revision}),
        )


def _finish_import(job: Job, finished: dict[str, Any]) -> None:
    """Raises ValidationError: nothing may be kept of it."""
    changes = Change.objects.filter(change_set=finished["revision"], kind__in=KINDS, action=Action.CHANGED)
    if not job.confirmed and any_grave(changes.iterator()):
        raise ValidationError(
            "a row lets somebody in again who was shut out. That takes a token with the scope confirmed."
        )
    _finish(job, finished)


def _undo(job: Job) -> None:
    _progress(job, "undoing", 0)
    with told_of(job) as progress, transaction.atomic():
        made = ChangeSet.objects.get(pk=job.undoes)
        recorder = undo(made, job.actor, job.address, progress=progress)
        _finish(job, {"state": JobState.DONE, "updated_at": timezone.now(), "revision": recorder.revision})


def _finish(job: Job, finished: dict[str, Any]) -> None:
    Job.objects.filter(pk=job.pk).update(**finished)
    JobPart.objects.filter(job=job).delete()


def _progress(job: Job, phase: str, done: int) -> None:
    Job.objects.filter(pk=job.pk).update(phase=phase, done=done, updated_at=timezone.now())


def _told(plan: Plan, importer: Importer) -> dict[str, Any]:
    return {
        "counts": {action.value: count for action, count in plan.counts.items()},
        "shown": [_entry(outcome) for outcome in plan.shown],
        "refused": refused_rows(plan, importer),
    }


def refused_rows(plan: Plan, importer: Importer) -> str:
    """The rows that cannot be imported as a file, to be mended and imported again; "" where there are none."""
    return sheets.write([*importer.columns, "error"], plan.refused) if plan.refused else ""


def _entry(outcome: Outcome) -> dict[str, Any]:
    return {"row": outcome.number, "action": outcome.action.value, "name": outcome.name, "words": outcome.words}


@contextlib.contextmanager
def _file(job: Job) -> Iterator[IO[bytes]]:
    """The file as it was taken."""
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
        for data in JobPart.objects.filter(job=job).order_by("number").values_list("data", flat=True).iterator(4):
            file.write(zlib.decompress(bytes(data)))
        file.seek(0)
        yield file
