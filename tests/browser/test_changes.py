"""An edit seen before it is saved, read afterwards, and taken back."""

from typing import Any

from playwright.sync_api import Page, expect

from identity.models import User
from tests.console.conftest import one_of_each, opened
from tests.factories import GroupFactory


def test_who_loses_what_is_told_before_saving_and_undone_after_it(console: Page, live_server: Any) -> None:
    alice: Any = opened(one_of_each())["users"]
    GroupFactory(name="Guests")
    console.goto(f"{live_server.url}/users/{alice.pk}/")

    # Before: what it would do to whom, with nothing saved.
    console.get_by_label("Partners").uncheck()
    console.get_by_label("Guests").check()
    console.get_by_role("button", name="What would change?").click()
    told = console.locator("#outlook")
    expect(told).to_contain_text("loses")
    expect(told).to_contain_text("orders")
    assert {group.name for group in alice.groups.all()} == {"Partners"}
    expect(console.get_by_label("Guests")).to_be_checked()  # what was typed is still there

    # After: who, when, what was before and what is now.
    console.get_by_role("button", name="Save", exact=True).click()
    console.get_by_role("navigation", name="Main").get_by_role("link", name="Changes").click()
    console.get_by_role("main").get_by_role("link", name="user alice changed").first.click()
    main = console.get_by_role("main")
    expect(main).to_contain_text("By olivia")
    expect(main.locator(".difference").first).to_contain_text("Partners")
    expect(main.locator(".difference").first).to_contain_text("Guests")

    # And back, as a change of its own.
    console.get_by_role("link", name="Undo…").click()
    console.get_by_role("button", name="Undo change").click()
    expect(console.get_by_role("status")).to_contain_text("is undone")
    assert {group.name for group in User.objects.get(name="alice").groups.all()} == {"Partners"}
    console.get_by_role("navigation", name="Main").get_by_role("link", name="Changes").click()
    expect(main.get_by_role("row", name="undo of change")).to_have_count(1)
