"""Who sees what: walked over every address that there is, so that a new one is thought of or fails here."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.urls import URLPattern, get_resolver, reverse

from console.models import PERMISSIONS, Role
from console.nouns import permission_of
from gateway.models import Change, ChangeSet
from gateway.topology.entries import SECTIONS
from tests.console.conftest import PASSWORD

PUBLIC = {"login", "healthz", "jwks"}
# What it takes to look at a page; None: a login alone. Pages of nouns follow the rule in `needed`.
PAGES = {
    "overview": "view",
    "invoke": "test_invoke",
    "changes": "view",
    "changes-detail": "view",
    "changes-undo": "change_identity",  # of the change that `address` picks
    "account": None,
    "operators": "change_operators",
    "operators-add": "change_operators",
    "operators-edit": "change_operators",
    "certificates-pem": "view",
    "ports-pair": "change_gateway",
    "nodes-enrol": "change_identity",
    "keystores-generate": "change_identity",
    "keystores-renew": "change_identity",
    "keystores-request": "change_identity",
    "keystores-pem": "view",
}
# Answer POST alone.
ACTIONS = {
    "logout",
    "nodes-disown",
    "certificates-block",
    "certificates-unblock",
    "certificates-unmap",
    "keystores-swap",
    "keystores-drop",
}


def names() -> list[str]:
    patterns = [pattern for pattern in get_resolver().url_patterns if isinstance(pattern, URLPattern)]
    return sorted({str(pattern.name) for pattern in patterns} - PUBLIC - ACTIONS)


def needed(name: str) -> str | None:
    """The permission that a page takes."""
    if name in PAGES:
        return PAGES[name]
    kind, _, page = name.rpartition("-")
    assert kind in SECTIONS, f"{name}: say in PAGES who may see it"
    return {"list": "view", "edit": "view", "add": permission_of(kind), "delete": permission_of(kind)}[page]


def address(name: str, world: dict[str, Model]) -> str:
    kind, _, _ = name.rpartition("-")
    match name:
        case "changes-undo":
            return reverse(name, args=[Change.objects.filter(kind="users").latest("id").change_set_id])
        case "changes-detail":
            return reverse(name, args=[ChangeSet.objects.latest("id").pk])
        case "operators-edit":
            return reverse(name, args=[1])
        case "ports-add":
            return reverse(name, args=["external"])
    row = world.get(kind)
    return (
        reverse(name, args=[row.pk])
        if row and not name.endswith(("-list", "-add", "-pair", "-generate"))
        else reverse(name)
    )


@pytest.mark.parametrize("role", Role.values)
def test_every_page_answers_each_role_as_its_permission_says(
    role: str, as_role: Callable[[str], Client], world: dict[str, Model]
) -> None:
    client = as_role(role)
    operator: Any = client.session["_auth_user_id"]
    for name in names():
        permission = needed(name)
        may = permission is None or list(Role).index(Role(role)) >= list(Role).index(PERMISSIONS[permission])
        url = address(name, world).replace("/operators/1/", f"/operators/{operator}/")
        answer = client.get(url)
        assert answer.status_code == (200 if may else 403), f"{role} at {url}: {answer.status_code}"


def test_without_a_login_every_page_leads_to_the_login(client: Client, world: dict[str, Model]) -> None:
    for name in names():
        answer = client.get(address(name, world))
        assert answer.status_code == 302, name
        assert answer["Location"].startswith("/login/?next="), name


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_pages_need_no_login(name: str, client: Client, db: None) -> None:
    assert client.get(reverse(name)).status_code == 200


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
