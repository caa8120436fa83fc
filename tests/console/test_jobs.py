"""The page Import: a file is taken, looked at by a worker, and carried out once, by whichever worker is free."""

import zlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from console import jobs
from console.jobs import go_on, work
from console.models import Job, JobMode, JobPart, JobState
from console.progress import Progress, done_of, told_of
from gateway.audit import change_set
from gateway.models import ChangeSet
from identity.models import Group

pytestmark = pytest.mark.django_db


def upload(client: Client, data: bytes, kind: str = "groups") -> Any:
    return client.post("/import/", {"kind": kind, "file": SimpleUploadedFile("groups.csv", data)})


def only_job() -> Job:
    return Job.objects.get()


def test_from_a_file_to_groups(owner: Client) -> None:
    answer = upload(owner, b"name\nOne\nTwo\n")
    page = owner.get(answer.url).content.decode()
    assert "Waiting for a worker" in page and 'http-equiv="refresh"' in page
    assert work() and not work()
    page = owner.get(answer.url).content.decode()
    assert "Import all 2 rows, or none" in page and 'http-equiv="refresh"' not in page
    assert not Group.objects.filter(name="One").exists()
    owner.post(f"{answer.url}all/")
    assert work()
    assert Group.objects.filter(name__in=["One", "Two"]).count() == 2
    job = only_job()
    assert (job.state, ChangeSet.objects.get(pk=job.revision).actor) == ("done", "olivia-owner")
    assert f"/changes/{job.revision}/" in owner.get(answer.url).content.decode()
    assert not JobPart.objects.exists()


def test_the_good_rows_and_a_file_of_the_others(owner: Client) -> None:
    url = upload(owner, b"name,description\nGood,\nnot good,=1\n").url
    work()
    page = owner.get(url).content.decode()
    assert "Import the 1 good row, leave out 1" in page and "Import all" not in page
    refused = owner.get(f"{url}refused.csv")
    assert refused["Content-Disposition"] == 'attachment; filename="groups-refused.csv"'
    assert refused.content.decode().splitlines()[1].startswith("not good,'=1,\"name: Use letters")
    owner.post(f"{url}good/")
    work()
    assert Group.objects.filter(name="Good").exists() and only_job().state == JobState.DONE


def test_all_or_nothing_is_looked_at_again(owner: Client) -> None:
    """What was good when it was looked at may not be any more."""
    url = upload(owner, b"name\nOne\n").url
    work()
    Job.objects.update(kind="users")  # the file is another now
    JobPart.objects.update(data=zlib.compress(b"name\nno good\n"))
    owner.post(f"{url}all/")
    work()
    job = only_job()
    assert (job.state, job.problem) == ("failed", "1 rows are refused; nothing was imported.")
    assert not JobPart.objects.exists()


def test_it_is_carried_out_once(owner: Client) -> None:
    upload(owner, b"name\nOne\n")
    job = only_job()
    assert not go_on(job, JobMode.ALL, "olivia", None), "not looked at yet"
    work()
    assert go_on(job, JobMode.ALL, "olivia", None)
    assert not go_on(job, JobMode.ALL, "olivia", None)


def test_of_two_workers_one_has_it_and_a_dead_one_loses_it(owner: Client) -> None:
    upload(owner, b"name\nOne\n")
    now = timezone.now()
    assert Job.objects.claim(now) is not None
    assert Job.objects.claim(now) is None
    assert Job.objects.claim(now + timedelta(minutes=11)) is not None


def test_a_file_that_is_none_fails_with_its_reason(owner: Client) -> None:
    url = upload(owner, b"nome\nx\n").url
    work()
    assert "There is no column &#x27;nome&#x27;" in owner.get(url).content.decode()
    owner.post(f"{url}discard/")
    assert not Job.objects.exists()


def test_a_large_file_comes_in_parts(owner: Client) -> None:
    rows = b"".join(b"g%d,%s\n" % (number, b"x" * 200) for number in range(12000))
    upload(owner, b"name,description\n" + rows)
    assert JobPart.objects.count() == 3
    work()
    assert only_job().counts == {"add": 12000}


def test_what_nobody_comes_back_to_is_thrown_away(owner: Client) -> None:
    upload(owner, b"name\nOne\n")
    Job.objects.update(updated_at=timezone.now() - timedelta(days=8))
    assert not work()
    assert not Job.objects.exists() and not JobPart.objects.exists()


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_imports_are_for_who_may_change_identity(role: str, as_role: Any, owner: Client) -> None:
    url = upload(owner, b"name\nOne\n").url
    work()
    other: Client = as_role(role)
    assert upload(other, b"name\nOne\n").status_code == 403
    for path in (url, f"{url}refused.csv"):
        assert other.get(path).status_code == 403
    for action in ("all", "good", "discard"):
        assert other.post(f"{url}{action}/").status_code == 403


@pytest.mark.django_db(transaction=True)
def test_how_far_the_writing_is_is_seen_before_it_is_committed(owner: Client, settings: Any, tmp_path: Path) -> None:
    settings.POSTERN_STATE_DIR = tmp_path
    url = upload(owner, b"name\n" + b"".join(b"G%d\n" % number for number in range(100))).url
    work()
    Job.objects.update(state=JobState.RUNNING, phase="writing", mode=JobMode.ALL)
    job = only_job()
    with told_of(job) as progress:
        with transaction.atomic(), change_set("tests", "not committed yet"):
            Group(name="Written").save()
            progress(0.42)
        page = owner.get(url).content.decode()
        assert "Writing: 42 of 100" in page and '<progress id="progress" value="42" max="100">' in page
    assert not list(tmp_path.rglob(str(job.pk))), "nothing of it stays behind"


@pytest.mark.django_db(transaction=True)
def test_every_word_about_progress_is_seen_to_the_end(
    owner: Client, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that the transaction holds is waited for, while rows are written and while they are recorded."""
    settings.POSTERN_STATE_DIR = tmp_path
    monkeypatch.setattr("console.progress.EVERY", 0)
    told, seen, beside, tell = [], [], connection.copy(), Progress.__call__

    def told_and_seen(progress: Progress, share: float) -> None:
        tell(progress, share)
        told.append(int(share * 1200))
        with beside.cursor() as cursor:
            cursor.execute("SELECT done FROM console_job")
            seen.append(done_of(Job(pk=progress._job.pk, done=cursor.fetchone()[0])))

    monkeypatch.setattr(Progress, "__call__", told_and_seen)
    upload(owner, b"name\n" + b"".join(b"G%d\n" % number for number in range(1200)))
    work()
    go_on(only_job(), JobMode.ALL, "olivia", None)
    try:
        work()
    finally:
        beside.close()
    assert only_job().state == JobState.DONE
    assert seen == told == [0, 250, 500, 600, 850, 1100], "written, and then recorded"


def test_files_do_not_pile_up(owner: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MOST_AT_ONCE", 2)
    first = upload(owner, b"name\nOne\n").url
    assert upload(owner, b"name\nTwo\n").status_code == 302
    refused = upload(owner, b"name\nThree\n")
    assert (refused.status_code, "2 imports wait" in refused.content.decode()) == (422, True)
    work()
    owner.post(f"{first}discard/")
    assert upload(owner, b"name\nThree\n").status_code == 302
