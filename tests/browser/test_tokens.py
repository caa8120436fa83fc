"""A token from the page that makes it to the program that shows it, and its end."""

from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Page, expect


def test_a_token_is_made_used_and_revoked(console: Page, live_server: Any) -> None:
    console.get_by_role("link", name="My account").click()
    console.get_by_role("link", name="API tokens").click()
    console.get_by_label("Name").fill("ci")
    console.get_by_label("Change users, groups").check()
    console.get_by_role("button", name="Make a token").click()
    text = console.locator("pre").inner_text().strip()
    ask = Request(f"{live_server.url}/api/v1/groups/", headers={"Authorization": f"Bearer {text}"})
    with urlopen(ask, timeout=30) as answer:
        assert b"Everybody" in answer.read()
    console.reload()
    expect(console.get_by_text(text)).to_have_count(0)
    console.get_by_role("button", name="Revoke token ci").click()
    expect(console.get_by_text("Token ci is revoked")).to_be_visible()
    with pytest.raises(HTTPError, match="401"):
        urlopen(ask, timeout=30)
