"""A change to a port that goes back unless it is confirmed, as an operator meets it."""

from typing import Any

from playwright.sync_api import Page, expect

from gateway.models import Port, Unconfirmed
from tests.factories import RegularPortFactory


def test_a_change_is_told_on_every_page_until_it_is_kept(console: Page, live_server: Any) -> None:
    port = RegularPortFactory(name="front", bind="127.0.0.1:9001")
    console.goto(f"{live_server.url}/ports/{port.pk}/")
    console.get_by_label("Bind").fill("127.0.0.1:9002")
    console.get_by_label("Go back unless I confirm within 60 s").check()
    console.get_by_role("button", name="Save").click()
    console.goto(f"{live_server.url}/users/")
    waiting = console.get_by_text("goes back at")
    expect(waiting).to_contain_text("unless it is confirmed")
    expect(waiting).to_contain_text("in ")  # counts down
    console.get_by_role("button", name="Keep it").click()
    expect(console.get_by_text("is confirmed, and stays.")).to_be_visible()
    expect(waiting).to_have_count(0)
    assert Port.objects.get().bind == "127.0.0.1:9002"
    assert Unconfirmed.objects.get().state == "kept"
