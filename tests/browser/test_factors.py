"""Passkeys in a real Chromium, with the authenticator that its DevTools can put in; an app's codes; sign-on."""

import base64
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, CDPSession, Page, expect

from console import totp
from console.models import Operator, Passkey
from tests.browser.conftest import PASSWORD, TIMEOUT, log_in
from tests.provider import CLIENT, SECRET, Provider


@pytest.fixture
def at(live_server: Any) -> str:
    """The console by a name: browsers make no passkeys for an address."""
    return str(live_server.url).replace("127.0.0.1", "localhost")


@pytest.fixture
def virtual(page: Page) -> Iterator[CDPSession]:
    """A device that holds passkeys, and whose user is always the right one."""
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    yield session
    session.detach()


def add_passkey(page: Page, at: str) -> None:
    page.goto(f"{at}/account/")
    page.get_by_role("link", name="Add a passkey").click()
    page.get_by_label("What you call it").fill("work laptop")
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_role("heading", name="Recovery codes", level=1)).to_be_visible()
    page.get_by_role("link", name="I have kept them").click()
    expect(page.get_by_text("work laptop", exact=True)).to_be_visible()


def log_out(page: Page) -> None:
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in", level=1)).to_be_visible()


def test_a_passkey_from_first_to_last(page: Page, at: str, owner: Operator, virtual: Any, troubles: list[str]) -> None:
    """Made, used alone, used as the second step, used to confirm, removed."""
    page.set_default_timeout(TIMEOUT)
    log_in(page, at, owner)
    add_passkey(page, at)
    made = Passkey.objects.get()
    assert (made.operator, made.host) == (owner, "localhost")

    log_out(page)
    page.get_by_role("link", name="Log in with a passkey").click()
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url(f"{at}/")
    used = Passkey.objects.get()
    assert used.counter > made.counter

    log_out(page)
    page.get_by_label("Username").fill(owner.username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    expect(page.get_by_role("heading", name="One more proof")).to_be_visible()
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url(f"{at}/")

    page.goto(f"{at}/confirm/?next=/account/")
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url(f"{at}/account/")
    page.get_by_role("button", name="Remove passkey work laptop").click()
    expect(page.get_by_text("The second factor is removed.")).to_be_visible()
    assert not owner.has_second_factor


def test_a_copied_passkey_is_found_out(page: Page, at: str, owner: Operator, virtual: Any) -> None:
    page.set_default_timeout(TIMEOUT)
    log_in(page, at, owner)
    add_passkey(page, at)
    Passkey.objects.update(counter=1000)  # as if its twin had been used since
    log_out(page)
    page.get_by_role("link", name="Log in with a passkey").click()
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_text("This passkey was copied")).to_be_visible()


def test_a_device_without_a_passkey_says_so(page: Page, at: str, owner: Operator, virtual: Any) -> None:
    page.set_default_timeout(TIMEOUT)
    page.goto(f"{at}/login/passkey/")
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_text("no passkey for this console is here")).to_be_visible()


def test_an_answer_is_not_given_twice(page: Page, at: str, owner: Operator, virtual: Any) -> None:
    """The form is sent again as it was: its question is over."""
    page.set_default_timeout(TIMEOUT)
    log_in(page, at, owner)
    add_passkey(page, at)
    page.goto(f"{at}/confirm/?next=/account/")
    bodies: list[str] = []
    page.on("request", lambda request: bodies.append(request.post_data or "") if request.method == "POST" else None)
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url(f"{at}/account/")
    page.goto(f"{at}/confirm/")
    sent = page.request.post(
        f"{at}/confirm/",
        data=bodies[0],
        headers={"Content-Type": "application/x-www-form-urlencoded", "Origin": at, "Referer": f"{at}/confirm/"},
    )
    assert sent.status == 422
    assert "not known here, or its answer does not hold" in sent.text()


def test_an_app_is_set_up_and_asked_for(console: Page, live_server: Any, context: BrowserContext) -> None:
    console.goto(f"{live_server.url}/account/")
    console.get_by_role("link", name="Set up an authenticator app").click()
    key = console.locator("code.secret").inner_text().replace(" ", "")
    secret = base64.b32decode(key + "=" * (-len(key) % 8))
    console.get_by_label("Code").fill(totp.code(secret, int(time.time()) // 30))
    console.get_by_role("button", name="Set up").click()
    code = console.locator(".codes code").first.inner_text()
    assert re.fullmatch(r"[a-z0-9]{4}(-[a-z0-9]{4}){5}", code)
    console.get_by_role("link", name="I have kept them").click()
    log_out(console)
    console.get_by_label("Username").fill("olivia")
    console.get_by_label("Password").fill(PASSWORD)
    console.get_by_role("button", name="Log in", exact=True).click()
    console.get_by_label("Code").fill(code)
    console.get_by_role("button", name="Log in", exact=True).click()
    console.wait_for_url(f"{live_server.url}/")


def test_sign_on_goes_out_and_comes_back(page: Page, at: str, owner: Operator, settings: Any, troubles: Any) -> None:
    """Another site's redirect carries no strict cookie: the page in between is what makes it work."""
    with Provider() as provider:
        settings.CONSOLE_OIDC_ISSUER, settings.CONSOLE_OIDC_NAME = provider.issuer, "Example ID"
        settings.CONSOLE_OIDC_CLIENT_ID, settings.CONSOLE_OIDC_CLIENT_SECRET = CLIENT, SECRET
        page.set_default_timeout(TIMEOUT)
        page.goto(f"{at}/account/")
        page.get_by_role("link", name="Log in with Example ID").click()
        page.wait_for_url(f"{at}/account/")
        expect(page.get_by_role("heading", name="erika", level=1)).to_be_visible()
