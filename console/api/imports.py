"""Imports of files as jobs: taken, looked at by a worker, and carried out when somebody has seen what would be done."""

import tempfile
from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest, UnreadablePostError

from console.api.operations import BASE, Answer, Call, Operation
from console.api.paging import PAGING, USUAL, offset_of, sealed
from console.api.problems import Refused, malformed, not_found
from console.api.reading import Query
from console.api.schemas import COUNT, MOMENT, TEXT, page_of, several, shape
from console.jobs import IN_MEMORY, PART, go_on, take, throw_away
from console.models import Job, JobMode, JobState
from gateway.bulk.imports import IMPORTERS
from gateway.bulk.sheets import MAX_FILE, SheetError

CSV, ZIP = "text/csv", "application/zip"
KIND = Query("kind", {"enum": list(IMPORTERS)}, "What is in the file.", required=True)
FILENAME = Query("filename", {"type": "string", "maxLength": 255}, "What it is called, for the audit log.")


def taken(call: Call) -> Answer:
    filename = call.query.get("filename") or f"upload.{'zip' if call.request.content_type == ZIP else 'csv'}"
    try:
        # Whole before anything is stored: no slow caller holds a transaction open.
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
            for chunk in _chunks(call.request):
                file.write(chunk)
            file.seek(0)
            parts = iter(lambda: file.read(PART), b"")
            job = take(call.query["kind"], filename, parts, call.actor, call.address)
    except SheetError as error:
        raise Refused(413, "too_large", str(error)) from error
    return _accepted(job)


def _chunks(request: HttpRequest) -> Iterator[bytes]:
    """The body, which may be larger than what is held in memory. Raises Refused, SheetError."""
    left = MAX_FILE
    try:
        while chunk := request.read(PART):
            left -= len(chunk)
            if left < 0:
                raise SheetError(f"The file has more than {MAX_FILE:,} bytes, and no more are taken. Split it.")
            yield chunk
    except UnreadablePostError as error:
        raise malformed("The body broke off.") from error


def _accepted(job: Job) -> Answer:
    return Answer(_told(job), 202, {"Location": f"/{BASE}/imports/{job.pk}"})


def listed(call: Call) -> Answer:
    begin, limit = offset_of(call.query), call.query.get("limit", USUAL)
    found = list(Job.objects.imports().defer("refused", "shown")[begin : begin + limit + 1])
    following = sealed(begin + limit) if len(found) > limit else None
    return Answer({"items": [_told(each) for each in found[:limit]], "next": following})


def one(call: Call) -> Answer:
    job = _job(call)
    return Answer(_told(job) | {"rows": job.shown})


def carried_out(call: Call) -> Answer:
    job = _job(call)
    mode, confirmed = JobMode(call.body["mode"]), call.token.is_confirmed
    if not go_on(job, mode, call.actor, call.address, confirmed=confirmed):
        raise _not_so(job, "It is carried out already, or was not looked at yet.")
    job.refresh_from_db()
    return _accepted(job)


def discarded(call: Call) -> Answer:
    job = _job(call)
    if not throw_away(job):
        raise _not_so(job, "It is being worked on, or is done.")
    return Answer(None, 204)


def refused(call: Call) -> Answer:
    return Answer(_job(call).refused)


def _not_so(job: Job, words: str) -> Refused:
    return Refused(409, "not_now", f"{words} Its state is {job.state}.")


def _job(call: Call) -> Job:
    job = Job.objects.imports().filter(pk=call.args["id"]).first()
    if job is None:
        raise not_found("There is no import of this number; they are forgotten after a week.")
    return job


def _told(job: Job) -> dict[str, Any]:
    return {
        "id": str(job.pk),
        "kind": job.kind,
        "filename": job.filename,
        "actor": job.actor,
        "at": job.created_at.isoformat(),
        "mode": job.mode,
        "state": job.state,
        "phase": job.phase,
        "done": job.done,
        "total": job.total,
        "counts": job.counts,
        "problem": job.problem,
        "revision": job.revision,
    }


_COUNTS = {
    "type": "object",
    "description": "Rows by what becomes of each: add, change, same, refuse.",
    "additionalProperties": COUNT,
}
_JOB = shape(
    id=TEXT, kind=TEXT, filename=TEXT, actor=TEXT, at=MOMENT, mode={"enum": JobMode.values},
    state={"enum": JobState.values}, phase=TEXT, done=COUNT, total=COUNT, counts=_COUNTS, problem=TEXT,
    revision={"type": ["integer", "null"]},
)  # fmt: skip
_ROW = shape(row=COUNT, action=TEXT, name=TEXT, words=TEXT)
_WITH_ROWS = {
    **_JOB,
    "properties": {**_JOB["properties"], "rows": several(_ROW)},
    "required": [*_JOB["required"], "rows"],
}
_MODE = shape(mode={"enum": [JobMode.ALL.value, JobMode.GOOD.value]})
_CHANGING = ("view", "change_identity")
_ONE = "/imports/{id}"
OPERATIONS = [
    Operation("imports_list", "GET", "/imports/", "Imports, the last ones first; each is kept for a week",
              listed, _CHANGING, {200: page_of(_JOB)}, "imports", PAGING),
    Operation("imports_take", "POST", "/imports/",
              "Take a file; a worker looks at it, and tells what would come of it: nothing is imported yet",
              taken, _CHANGING, {202: _JOB}, "imports", (KIND, FILENAME), body=TEXT, refusals=(413,),
              takes=(CSV, ZIP), costly=True),
    Operation("imports_get", "GET", _ONE, "How far it is, and the first rows of each outcome",
              one, _CHANGING, {200: _WITH_ROWS}, "imports", refusals=(404,)),
    Operation("imports_carry_out", "POST", f"{_ONE}/carry-out",
              "Import what was looked at: all rows or none, or the good ones",
              carried_out, _CHANGING, {202: _JOB}, "imports", body=_MODE, refusals=(404, 409)),
    Operation("imports_discard", "DELETE", _ONE, "Throw the file away; nothing of it is imported",
              discarded, _CHANGING, {204: None}, "imports", refusals=(404, 409)),
    Operation("imports_refused", "GET", f"{_ONE}/refused",
              "The rows that are refused, each with its error: to be mended and taken again",
              refused, _CHANGING, {200: TEXT}, "imports", refusals=(404,), gives=CSV),
]  # fmt: skip
