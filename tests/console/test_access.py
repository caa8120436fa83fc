"""Who sees what: walked over every address that there is, so that a new one is thought of or fails here."""

from collections.abc import Callable

import pytest
from django.db import transaction
from django.db.models import Model
from django.test import Client
from django.urls import URLPattern, get_resolver, reverse

from console.models import PERMISSIONS, Job, JobState, Role, TestRun
from console.nouns import permission_of
from gateway.models import Change, ChangeSet
from gateway.topology.entries import SECTIONS
from tests.console.conftest import PASSWORD
from tests.console.refused import refused_request, saved_test

PUBLIC = {"login", "login-second", "login-passkey", "oidc-begin", "oidc-callback", "healthz", "jwks", "metrics"}
# What it takes to look at a page; None: a login alone. Pages of nouns follow the rule in `needed`.
PAGES = {
    "overview": "view",
    "overview-live": "view",
    "search": "view",
    "invoke": "test_invoke",
    "changes": "view",
    "changes-detail": "view",
    "changes-undo": "change_identity",  # of the change that `address` picks
    "authority": "view",
    "account": None,
    "account-authenticator": None,
    "account-passkey": None,
    "account-tokens": "view",
    "confirm": None,
    "operators": "change_operators",
    "operators-add": "change_operators",
    "operators-edit": "change_operators",
    "expiry": "view",
    "choices": "view",
    "imports": "change_identity",
    "imports-detail": "change_identity",
    "imports-refused": "change_identity",
    "certificates-bulk": "change_identity",
    "users-bulk": "change_identity",
    "registrations-bulk": "change_gateway",
    "certificates-pem": "view",
    "certificates-refused": "view",
    "refusals": "view",
    "refusals-detail": "view",
    "start": "change_identity",
    "tests": "view",
    "tests-add": "test_invoke",
    "tests-edit": "test_invoke",
    "tests-run": "view",
    "ports-pair": "change_gateway",
    "certificates-ahead": "change_identity",
    "users-ahead": "change_identity",
    "registrations-ahead": "change_gateway",
    "nodes-enrol": "change_identity",
    "keystores-generate": "change_identity",
    "keystores-renew": "change_identity",
    "keystores-request": "change_identity",
    "keystores-pem": "view",
}
# Answer POST alone.
ACTIONS = {
    "logout": None,
    "tests-run-all": "test_invoke",
    "tests-delete": "test_invoke",
    "nodes-disown": "change_identity",
    "authority-exchange": "change_authority",
    "authority-drop": "change_authority",
    "changes-keep": "change_gateway",
    "changes-take-back": "change_gateway",
    "account-authenticator-remove": None,
    "account-passkey-remove": None,
    "account-recovery-codes": None,
    "account-sessions-end": None,
    "account-language": None,
    "account-tokens-revoke": None,
    "operators-revoke-tokens": "change_operators",
    "operators-remove-factors": "change_operators",
    "operators-end-sessions": "change_operators",
    "certificates-block-pem": "change_identity",
    "imports-all": "change_identity",
    "imports-good": "change_identity",
    "imports-discard": "change_identity",
    "keystores-swap": "change_identity",
    "keystores-drop": "change_identity",
    "certificates-unmap": "change_identity",
    **{
        f"{kind}-{word}": permission_of(kind)
        for kind in ("certificates", "users", "registrations")
        for word in ("block", "unblock")
    },
}
# Pages that are looked at and change nothing: they answer no POST, or give the same to one.
READ_ALONE = {
    "authority",
    "choices",
    "expiry",
    "imports-detail",
    "imports-refused",
    "certificates-refused",
    "certificates-ahead",
    "users-ahead",
    "registrations-ahead",
    "refusals",
    "refusals-detail",
    "tests",
    "tests-run",
    "keystores-pem",
    "keystores-request",
    "overview",
    "overview-live",
    "search",
    "changes",
    "changes-detail",
    "operators",
    "certificates-pem",
}
# Before these it is asked again who somebody is.
ASKING = {
    "account-authenticator", "account-passkey", "account-recovery-codes", "account-authenticator-remove",
    "certificates-bulk", "users-bulk", "registrations-bulk", "start", "nodes-enrol", "imports-all", "imports-good",
    "account-passkey-remove", "account-tokens", "operators-add", "operators-edit", "operators-remove-factors",
    "keystores-add", "keystores-edit", "keystores-delete", "keystores-generate", "keystores-renew",
    "keystores-swap", "keystores-drop", "certificates-unblock", "users-unblock", "registrations-unblock",
    "authority-exchange", "authority-drop",
}  # fmt: skip

# Before these where it is blocked: `console.grave`, for the API likewise.
ASKING_OF_WHAT_IS_BLOCKED = {"certificates-delete", "users-delete", "registrations-delete"}


def every_name() -> list[str]:
    patterns = [pattern for pattern in get_resolver().url_patterns if isinstance(pattern, URLPattern)]
    assert len(patterns) == len(get_resolver().url_patterns), "an address that is included is walked over too"
    # The API knows nobody by a session: who may what there is walked over in tests/api.
    return sorted(name for name in {str(pattern.name) for pattern in patterns} if not name.startswith("api-"))


def names() -> list[str]:
    """Of the pages that are looked at after a login."""
    return sorted(set(every_name()) - PUBLIC - set(ACTIONS))


def needed(name: str) -> str | None:
    """The permission that a page takes."""
    if name in PAGES or name in ACTIONS:
        return (PAGES | ACTIONS)[name]
    kind, _, page = name.rpartition("-")
    assert kind in SECTIONS, f"{name}: say in PAGES who may see it"
    return {"list": "view", "edit": "view", "add": permission_of(kind), "delete": permission_of(kind)}[page]


def needed_to_post(name: str) -> str | None:
    kind, _, page = name.rpartition("-")
    return permission_of(kind) if kind in SECTIONS and page == "edit" and name not in PAGES else needed(name)


def address(name: str, world: dict[str, Model], operator: int = 1) -> str:
    kind, _, _ = name.rpartition("-")
    match name:
        case "changes-undo":
            return reverse(name, args=[Change.objects.filter(kind="users").latest("id").change_set_id])
        case "changes-detail" | "changes-keep" | "changes-take-back":
            return reverse(name, args=[ChangeSet.objects.latest("id").pk])
        case "operators-edit" | "operators-remove-factors" | "operators-end-sessions" | "operators-revoke-tokens":
            return reverse(name, args=[operator])
        case "account-passkey-remove" | "account-tokens-revoke":
            return reverse(name, args=[operator])
        case "tests-edit" | "tests-delete":
            return reverse(name, args=[saved_test().pk])
        case "tests-run":
            return reverse(name, args=[TestRun.objects.create(actor="tests", revision=1).pk])
        case "refusals-detail":
            return reverse(name, args=[refused_request(trace_id="ab" * 16, port="ext", node="edge").trace_id])
        case "certificates-ahead" | "users-ahead" | "registrations-ahead":
            return reverse(name, args=[world[kind].pk, "block"])
        case "choices":
            return reverse(name, args=["users"])
        case "ports-add":
            return reverse(name, args=["external"])
    if kind == "imports":
        job, _ = Job.objects.get_or_create(kind="users", filename="users.csv", actor="tests", state=JobState.CHECKED)
        return reverse(name, args=[job.pk])
    row = world.get(kind)
    alone = ("-list", "-bulk", "-add", "-pair", "-refused", "-generate")
    return reverse(name, args=[row.pk]) if row and not name.endswith(alone) else reverse(name)


def operator_of(client: Client) -> int:
    return int(client.session["_auth_user_id"])


def has(role: str, permission: str | None) -> bool:
    return permission is None or list(Role).index(Role(role)) >= list(Role).index(PERMISSIONS[permission])


@pytest.mark.parametrize("role", Role.values)
def test_every_page_answers_each_role_as_its_permission_says(
    role: str, as_role: Callable[[str], Client], world: dict[str, Model]
) -> None:
    client = as_role(role)
    for name in names():
        url = address(name, world, operator_of(client))
        answer = client.get(url)
        assert answer.status_code == (200 if has(role, needed(name)) else 403), f"{role} at {url}: {answer.status_code}"


@pytest.mark.parametrize("role", Role.values)
def test_every_post_is_taken_from_the_roles_that_may(
    role: str, as_role: Callable[[str], Client], world: dict[str, Model]
) -> None:
    """Posted is nothing that any form would take: who may hears what is wrong with it, who may not is refused."""
    for name in sorted({*names(), *ACTIONS} - {"logout"}):
        sid = transaction.savepoint()
        client = as_role(role)
        url = address(name, world, operator_of(client))
        answer = client.post(url, {"name": ""})
        if name in READ_ALONE or name.endswith("-list"):
            assert answer.status_code in (200, 403, 405), f"{role} at {url}: {answer.status_code}"
        elif has(role, needed_to_post(name)):
            assert answer.status_code in (200, 302, 404, 409, 422), f"{role} at {url}: {answer.status_code}"
        else:
            assert answer.status_code == 403, f"{role} at {url}: {answer.status_code}"
        transaction.savepoint_rollback(sid)


@pytest.mark.parametrize("role", Role.values)
def test_what_a_role_may_not_do_leaves_no_trace(
    role: str, as_role: Callable[[str], Client], world: dict[str, Model]
) -> None:
    client = as_role(role)
    before = ChangeSet.objects.count()
    for name in sorted({*names(), *ACTIONS} - {"logout"}):
        if not has(role, needed_to_post(name)):
            client.post(address(name, world, operator_of(client)), {"name": "stolen"})
            assert ChangeSet.objects.count() == before, name


@pytest.mark.parametrize("method", ["put", "delete", "patch"])
def test_no_other_method_does_anything(method: str, as_role: Callable[[str], Client], world: dict[str, Model]) -> None:
    client = as_role("owner")
    before, failed = ChangeSet.objects.count(), []
    for name in sorted({*every_name()} - {"oidc-begin", "oidc-callback"}):
        answer = getattr(client, method)(address(name, world, operator_of(client)))
        failed += [name] if answer.status_code not in (302, 403, 405) and name not in ANSWERS_ALL else []
    assert not failed
    assert ChangeSet.objects.count() == before


# Read alone, whatever the method says.
ANSWERS_ALL = {"overview", "changes", "changes-detail", "healthz", "jwks"}


@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_an_action_is_no_link(name: str, as_role: Callable[[str], Client], world: dict[str, Model]) -> None:
    client = as_role("owner")
    assert client.get(address(name, world, operator_of(client))).status_code == 405


@pytest.mark.parametrize("name", sorted(ASKING))
def test_it_is_asked_again_before_what_is_secret_or_dangerous(
    name: str, as_role: Callable[[str], Client], world: dict[str, Model]
) -> None:
    client = as_role("owner")
    session = client.session
    session["proved_at"] = 0
    session.save()
    url = address(name, world, operator_of(client))
    for answer in ([] if name in ACTIONS else [client.get(url)]) + [client.post(url, {"name": ""})]:
        assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, "/confirm/"), url


@pytest.mark.parametrize("name", sorted(ASKING_OF_WHAT_IS_BLOCKED))
def test_it_is_asked_again_before_what_is_blocked_is_gone(
    name: str, as_role: Callable[[str], Client], world: dict[str, Model]
) -> None:
    """Nothing would shut it out any more: a certificate may be covered by a rule, a user and a node be added anew."""
    client = as_role("owner")
    client.post(address(name.replace("-delete", "-block"), world))
    session = client.session
    session["proved_at"] = 0
    session.save()
    before = ChangeSet.objects.count()
    for answer in (client.get(address(name, world)), client.post(address(name, world))):
        assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, "/confirm/"), name
    assert ChangeSet.objects.count() == before


def test_without_a_login_every_page_leads_to_the_login(client: Client, world: dict[str, Model]) -> None:
    for name in [*names(), *ACTIONS]:
        answer = client.post(address(name, world)) if name in ACTIONS else client.get(address(name, world))
        assert answer.status_code == 302, name
        assert answer["Location"].startswith("/login/?next="), name


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_pages_need_no_login(name: str, client: Client, db: None) -> None:
    """The second step leads back to the first; there is no identity provider here, and no token for the metrics."""
    expected = {"login-second": 302, "oidc-begin": 404, "oidc-callback": 404, "metrics": 404}
    answer = client.get(reverse(name))
    assert answer.status_code == expected.get(name, 200)
    assert answer.get("Location", "/login/") == "/login/"


@pytest.mark.parametrize("kind", sorted(SECTIONS))
@pytest.mark.parametrize("page", ["edit", "delete"])
def test_a_viewer_changes_nothing(
    kind: str, page: str, as_role: Callable[[str], Client], world: dict[str, Model]
) -> None:
    before = ChangeSet.objects.count()
    answer = as_role("viewer").post(reverse(f"{kind}-{page}", args=[world[kind].pk]), {"name": "stolen"})
    assert answer.status_code == 403
    assert "takes the role" in answer.content.decode()
    assert ChangeSet.objects.count() == before


def test_who_is_refused_is_logged(
    as_role: Callable[[str], Client], world: dict[str, Model], caplog: pytest.LogCaptureFixture
) -> None:
    client = as_role("viewer")
    client.post("/groups/add/", {"name": "a-secret-in-the-wrong-field"}, REMOTE_ADDR="192.0.2.7")
    client.get("/operators/")
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(client.get("/").wsgi_request.user)
    strict.post("/logout/")
    assert [record.getMessage() for record in caplog.records if record.name == "postern.security"] == [
        "refused olivia-viewer from 192.0.2.7: POST /groups/add/: it takes change_identity",
        "refused olivia-viewer from 127.0.0.1: GET /operators/: it takes change_operators",
        "refused olivia-viewer from 127.0.0.1: POST /logout/: the form's token is not the session's",
    ]
    assert "a-secret-in-the-wrong-field" not in caplog.text


def test_an_operator_does_not_touch_identities(as_role: Callable[[str], Client], world: dict[str, Model]) -> None:
    assert as_role("operator").post(reverse("users-add"), {"name": "mallory"}).status_code == 403


def test_a_disabled_operator_is_logged_out_at_once(owner: Client) -> None:
    from console.models import Operator

    Operator.objects.update(is_active=False)
    assert owner.get("/users/").status_code == 302


def test_pages_forbid_everything_inline(owner: Client, world: dict[str, Model]) -> None:
    for name in names():
        answer = owner.get(address(name, world)) if name != "operators-edit" else owner.get("/operators/")
        policy = answer["Content-Security-Policy"]
        assert "unsafe" not in policy, name
        assert "default-src 'none'" in policy, name
        text = answer.content.decode()
        assert " style=" not in text, name
        assert "<script>" not in text and " onclick=" not in text, name


def test_forms_carry_a_token_and_are_refused_without(world: dict[str, Model], as_role: Callable[[str], Client]) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(as_role("owner").get("/").wsgi_request.user)
    assert b"csrfmiddlewaretoken" in strict.get("/groups/add/").content
    answer = strict.post("/groups/add/", {"name": "Sneaky"})
    assert answer.status_code == 403
    assert "out of date" in answer.content.decode()


def test_what_was_seen_is_not_kept_by_browsers(owner: Client) -> None:
    assert "no-store" in owner.get("/")["Cache-Control"]


def test_a_missing_object_is_said_in_words(owner: Client) -> None:
    answer = owner.get("/users/00000000-0000-0000-0000-000000000000/")
    assert answer.status_code == 404
    assert "There is nothing here" in answer.content.decode()


def test_a_stranger_who_asks_for_nothing_learns_nothing(client: Client, db: None) -> None:
    answer = client.get("/no/such/page")
    assert answer.status_code == 404
    assert "Users" not in answer.content.decode()


def test_the_password_of_these_tests_is_never_on_a_page(owner: Client, world: dict[str, Model]) -> None:
    for name in ("operators", "account", "changes"):
        assert PASSWORD not in owner.get(reverse(name)).content.decode()
