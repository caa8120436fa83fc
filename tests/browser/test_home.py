"""The overview as people use it: live, by keyboard, without scripts; and finding things, and several at once."""

import re
import time
from typing import Any

import pytest
from django.db import connection
from playwright.sync_api import Browser, Page, expect

from gateway.audit import current_revision
from gateway.relay import control
from gateway.relay.control import ControlError
from identity.models import User
from tests.browser.conftest import log_in
from tests.console.conftest import one_of_each
from tests.factories import UserFactory

REFRESHED = 30_000  # milliseconds within which a change at a node is seen


@pytest.fixture
def edge(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the edge tells; the others do not answer."""
    tunnel = {"registration": "inside-at-reg", "port": "reg", "idle": 2, "busy": 1, "last_seen": time.time()}
    ports = [{"name": name, "listening": True, "connections": 0} for name in ("ext", "reg")]
    told = {"in_flight": 1, "requests": 7, "ports": ports, "tunnels": [tunnel]}

    def call(state_dir: Any, node: str, message: dict[str, Any], *, timeout: float) -> dict[str, Any]:
        if not node.startswith("edge"):
            raise ControlError(f"Node {node} is not asked here.")
        revision = current_revision()
        connection.close()  # this thread, which is the console's for the asking alone, ends and would leave it open
        return {"revision": revision} | told

    monkeypatch.setattr(control, "call", call)
    return told


def test_a_tunnel_that_goes_down_is_seen_without_reloading(
    console: Page, live_server: Any, edge: dict[str, Any]
) -> None:
    one_of_each()
    console.goto(f"{live_server.url}/")
    tunnel = console.get_by_role("link", name="Tunnel inside-at-reg")
    expect(tunnel).to_contain_text("2 idle, 1 busy")
    tunnel.focus()
    where = console.locator(".topology").bounding_box()
    edge["tunnels"] = []
    edge["left"] = [{"registration": "inside-at-reg", "port": "reg", "last_seen": time.time()}]
    expect(tunnel).to_contain_text("down", timeout=REFRESHED)
    expect(tunnel).to_be_focused()
    assert where is not None
    now = console.locator(".topology").bounding_box()
    assert now is not None
    assert (now["x"], now["width"], now["height"]) == (where["x"], where["width"], where["height"])


def test_every_box_is_reached_and_opened_by_keyboard(console: Page, live_server: Any, edge: dict[str, Any]) -> None:
    world = one_of_each()
    console.goto(f"{live_server.url}/")
    console.locator(".topology").focus()
    seen = []
    for _ in range(6):
        console.keyboard.press("Tab")
        seen.append(console.evaluate("document.activeElement.getAttribute('aria-label') || ''"))
    assert any(label.startswith(f"Node {world['ports'].node} (edge)") for label in seen)  # type: ignore[attr-defined]
    assert any(label.startswith("Tunnel inside-at-reg") for label in seen)
    console.get_by_role("link", name="Port ext (external)").focus()
    console.keyboard.press("Enter")
    expect(console.get_by_role("heading", name="ext", level=1)).to_be_visible()


def test_a_way_is_lit_without_scripts(browser: Browser, live_server: Any, owner: Any, edge: dict[str, Any]) -> None:
    one_of_each()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    log_in(page, live_server.url, owner)
    page.get_by_label("Certificate", exact=True).fill("alice")
    page.get_by_label("Path").fill("/orders")
    page.get_by_role("button", name="Light the way").click()
    expect(page.locator(".ways")).to_contain_text("is stopped")
    expect(page.get_by_role("img", name="Callers of port ext: CN=alice")).to_be_visible()
    context.close()


def test_times_are_told_in_the_reader_s_zone(browser: Browser, live_server: Any, owner: Any) -> None:
    UserFactory(name="alice")
    texts = []
    for zone, scripts in (("Asia/Tokyo", True), ("Asia/Tokyo", False)):
        context = browser.new_context(timezone_id=zone, locale="en-GB", java_script_enabled=scripts)
        page = context.new_page()
        log_in(page, live_server.url, owner)
        page.goto(f"{live_server.url}/changes/")
        texts.append(page.locator("time").first.inner_text())
        context.close()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d GMT\+9", texts[0])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", texts[1])


def test_several_are_ticked_and_disabled_at_once(console: Page, live_server: Any) -> None:
    for name in ("alice", "bob", "carol"):
        UserFactory(name=name)
    console.goto(f"{live_server.url}/users/")
    console.get_by_label("Choose alice").check()
    console.get_by_label("Choose carol").check()
    console.get_by_label("With those ticked").select_option("Disable")
    console.get_by_role("button", name="Go on").click()
    expect(console.get_by_role("heading", name="Disable: Users (2)")).to_be_visible()
    console.get_by_role("button", name="Disable").click()
    expect(console.get_by_text("Done. Disable: Users (2).")).to_be_visible()
    assert {row.name for row in User.objects.filter(enabled=False)} == {"alice", "carol"}


def test_a_fingerprint_is_pasted_into_the_search_of_any_page(console: Page, live_server: Any) -> None:
    row: Any = one_of_each()["certificates"]
    console.goto(f"{live_server.url}/acls/")
    console.keyboard.press("/")
    console.keyboard.type(":".join(row.sha256[i : i + 2] for i in range(0, 64, 2)).upper())
    console.keyboard.press("Enter")
    console.get_by_role("main").get_by_role("link", name="alice").click()
    expect(console.get_by_role("heading", name="alice", level=1)).to_be_visible()
