"""Saved tests: sent as test invokes are, compared with what is expected of them, and a run with the run before it."""

import logging
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import transaction
from django.utils import timezone

from console.invocation import Invocation, InvocationError, ran_as, send
from console.kept import RunState, SavedTest, TestResult, TestRun
from gateway.audit import current_revision, record_event, record_test
from gateway.models import Action, Change, Port
from identity.core import files
from identity.core.certificates import CertificateError
from identity.core.vault import VaultError
from identity.models import Certificate, Keystore

log = logging.getLogger(__name__)


def keep(test: SavedTest, actor: str, address: str | None) -> SavedTest:
    """Store a test that is filled in, new or changed."""
    with transaction.atomic():
        was = SavedTest.objects.filter(pk=test.pk).first()
        test.save()
        _record(actor, address, was.record() if was else None, test.record())
    return test


def remove(test: SavedTest, actor: str, address: str | None) -> None:
    with transaction.atomic():
        _record(actor, address, test.record(), None)
        test.delete()


def _record(actor: str, address: str | None, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
    """That a test was added, changed or removed; it configures nothing."""
    action = Action.ADDED if before is None else Action.REMOVED if after is None else Action.CHANGED
    name = (after or before or {})["name"]
    change = Change(action=action, kind="saved_tests", name=name, before=before, after=after)
    record_event(actor, f"saved test {name} {action.value}", address, change)


# --- one test ---


def invocation_of(test: SavedTest) -> Invocation:
    """Raises InvocationError where something that it names is not there."""
    port = Port.objects.listening().select_related("node").filter(name=test.port).first()
    if port is None:
        raise InvocationError(f"There is no enabled port {test.port} any more.")
    try:
        return Invocation(
            port=port,
            method=test.method,
            target=test.path,
            headers=tuple((name, value) for name, value in test.headers),
            body=test.body,
            credential=test.credential,  # type: ignore[arg-type]
            certificate=Certificate.objects.get(name=test.certificate) if test.credential == "certificate" else None,
            keystore=Keystore.objects.get(name=test.certificate) if test.credential == "keystore" else None,
            pem=tuple(files.chain_from(test.pem.encode())) if test.credential == "pem" else (),
            username=test.username,
            password=test.open_password(),
        )
    except ObjectDoesNotExist as error:
        raise InvocationError(f"There is no {test.credential} {test.certificate} any more.") from error
    except (CertificateError, VaultError) as error:
        raise InvocationError(f"What it would come with cannot be read: {error}") from error


def differences(test: SavedTest, answer: dict[str, Any]) -> list[str]:
    """What is not as expected, in words."""
    found = []
    reason, user = answer.get("reason") or "", ran_as(answer)
    if answer["status"] != test.expected_status:
        found.append(f"status {answer['status']} in place of {test.expected_status}")
    if test.expected_reason and reason != test.expected_reason:
        found.append(f"reason {reason or 'none'} in place of {test.expected_reason}")
    if test.expected_user and user != test.expected_user:
        found.append(f"runs as {user or 'nobody'} in place of {test.expected_user}")
    return found


def tried(test: SavedTest) -> TestResult:
    """Send it; the result, not stored yet."""
    result = TestResult(test=test, name=test.name)
    try:
        answer = send(invocation_of(test))
    except InvocationError as error:
        result.passed, result.words = False, str(error)
        return result
    if "error" in answer:
        result.passed, result.words = False, str(answer["error"])
        return result
    found = differences(test, answer)
    result.passed, result.words = not found, "; ".join(found)
    result.status, result.reason, result.user = answer["status"], answer.get("reason") or "", ran_as(answer)
    result.seconds, result.trace_id = answer.get("seconds"), answer.get("trace_id") or ""
    return result


# --- all of them ---


def ask_for_run(actor: str, address: str | None) -> TestRun:
    """A worker begins with it at once; one that waits already is the same."""
    waiting = TestRun.objects.filter(state=RunState.WAITING).first()
    if waiting is not None:
        return waiting
    total = SavedTest.objects.count()
    return TestRun.objects.create(actor=actor, address=address, revision=current_revision(), total=total)


def work() -> bool:
    """Carry out one run that waits; False where there is none."""
    run = TestRun.objects.claim(timezone.now())
    if run is None:
        return False
    run.results.all().delete()  # of a worker that died in the middle of it
    tests = list(SavedTest.objects.all())
    TestRun.objects.filter(pk=run.pk).update(total=len(tests))
    wrong = 0
    for test in tests:
        result = tried(test)
        if SavedTest.objects.filter(pk=test.pk).exists():
            result.run = run
            result.save()
            wrong += not result.passed
        TestRun.objects.filter(pk=run.pk).update(updated_at=timezone.now())
    TestRun.objects.filter(pk=run.pk).update(state=RunState.DONE, updated_at=timezone.now())
    for old in TestRun.objects.filter(state=RunState.DONE)[TestRun.KEPT :]:
        old.delete()
    what = f"{len(tests)} saved tests were run: {f'{wrong} not as expected' if wrong else 'all as expected'}"
    record_test(run.actor, what, run.address, "saved tests", {"tests": len(tests), "not as expected": wrong})
    return True


@dataclass(frozen=True, slots=True)
class Compared:
    """One test in a run and in the one before. `turn`: what became of it, in a word; "" where nothing did."""

    name: str
    test: SavedTest | None
    now: TestResult
    before: TestResult | None

    @property
    def turn(self) -> str:
        now, before = self.now, self.before
        if before is None:
            return "new"
        if now.passed != before.passed:
            return "mended" if now.passed else "broken"
        return "differs" if now.outcome != before.outcome else ""


def compared(run: TestRun) -> list[Compared]:
    """Every result of a run beside that of the run before; what is not as expected first."""
    before = TestRun.objects.filter(state=RunState.DONE, started_at__lt=run.started_at).first()
    earlier = {each.test_id: each for each in before.results.all()} if before else {}
    found = [
        Compared(each.name, each.test, each, earlier.get(each.test_id)) for each in run.results.select_related("test")
    ]
    order = {"broken": 0, "differs": 1, "mended": 2}
    return sorted(
        found, key=lambda each: (each.now is not None and each.now.passed, order.get(each.turn, 3), each.name)
    )
