"""Every page at every width, in both schemes: nothing sticks out, nothing is complained of, no script is needed."""

from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import log_in
from tests.console.refused import refused_request, saved_test
from tests.factories import ACLFactory, GroupFactory, UserFactory

PAGES = [
    "/",
    "/users/",
    "/users/add/",
    "/acls/add/",
    "/ports/add/external/",
    "/ports/add/pair/",
    "/changes/",
    "/account/",
    "/refusals/",
    "/certificates/refused/",
    "/tests/",
    "/tests/add/",
    "/start/",
    "/account/tokens/",
]


@pytest.mark.parametrize(("width", "language"), [(390, "en"), (390, "de"), (1440, "en"), (2560, "en")])
def test_no_page_is_wider_than_its_window(console: Page, live_server: Any, width: int, language: str) -> None:
    """With the longest names there are, and in the language of the longest words."""
    console.context.add_cookies([{"name": settings.LANGUAGE_COOKIE_NAME, "value": language, "url": live_server.url}])
    UserFactory(name="a" * 120)
    refused_request(path="/orders/" + "a" * 200, subject="CN=" + "a" * 200, user="a" * 120)
    saved_test(path="/orders/" + "a" * 200)
    console.set_viewport_size({"width": width, "height": 900})
    for path in PAGES:
        console.goto(live_server.url + path)
        wide = console.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{path} is {wide} wide at {width}"
    assert console.locator("html").get_attribute("lang") == language


def test_the_places_are_reached_at_390_without_scripts(browser: Browser, live_server: Any, owner: Any) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, java_script_enabled=False)
    page = context.new_page()
    log_in(page, live_server.url, owner)
    expect(page.get_by_role("link", name="Users")).to_have_count(0)
    page.get_by_text("Menu").click()
    page.get_by_role("link", name="Users").click()
    expect(page.get_by_role("heading", name="Users", level=1)).to_be_visible()
    context.close()


def test_a_slash_goes_to_the_search(console: Page, live_server: Any) -> None:
    UserFactory(name="alice")
    UserFactory(name="bob")
    console.goto(f"{live_server.url}/users/")
    console.keyboard.press("/")
    console.keyboard.type("ali")
    console.keyboard.press("Enter")
    expect(console.get_by_role("link", name="alice")).to_be_visible()
    expect(console.get_by_role("link", name="bob")).to_have_count(0)


def test_an_acl_is_a_table_of_choices(console: Page, live_server: Any) -> None:
    partners = GroupFactory(name="Partners")
    UserFactory(name="alice", groups=[partners])
    acl = ACLFactory(name="PartnerApi")
    console.goto(f"{live_server.url}/acls/{acl.pk}/")
    expect(console.get_by_text("It lets nobody in.")).to_be_visible()
    console.get_by_role("radio", name="Partners: allowed").check()
    console.get_by_role("button", name="Save").click()
    console.goto(f"{live_server.url}/acls/{acl.pk}/")
    expect(console.get_by_text("It lets in every user, and nobody without a credential.")).to_be_visible()


def test_a_refused_form_says_first_what_is_wrong(console: Page, live_server: Any) -> None:
    console.goto(f"{live_server.url}/users/add/")
    console.get_by_label("Name", exact=True).fill("no blanks please")
    console.get_by_role("button", name="Add a user").click()
    summary = console.get_by_role("alert")
    expect(summary).to_be_focused()
    summary.get_by_role("link", name="Name").click()
    expect(console.get_by_label("Name", exact=True)).to_be_focused()
