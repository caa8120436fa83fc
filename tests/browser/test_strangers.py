"""A partner whom nobody expected: refused in the handshake, then trusted and mapped from the page that shows him."""

import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PASSWORD, TIMEOUT, log_in
from tests.browser.installation import Installation
from tests.factories import server_ca
from tests.minting import Minted, authority, mint

FETCHED = 30_000  # milliseconds within which the worker has fetched what a node refused


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation(tmp_path_factory.mktemp("s"), "olivia", PASSWORD, inside_shows=("orders",)) as place:
        yield place


@pytest.fixture
def console(page: Page, installation: Installation, troubles: list[str]) -> Page:
    page.set_default_timeout(TIMEOUT)
    log_in(page, installation.url, SimpleNamespace(username="olivia"))  # type: ignore[arg-type]
    return page


def call(installation: Installation, folder: Path, *shown: Minted) -> tuple[int, str] | None:
    """Status and reason of GET /orders, by a caller who shows these certificates; None where the handshake failed."""
    (folder / "both.pem").write_text(shown[0].key_pem + "".join(each.pem for each in shown))
    context = ssl.create_default_context(cadata=server_ca().pem)
    context.load_cert_chain(folder / "both.pem")
    connection = http.client.HTTPSConnection("localhost", installation.ports["ext"], timeout=30, context=context)
    try:
        connection.request("GET", "/orders")
        answer = connection.getresponse()
        return answer.status, json.load(answer)["reason"]
    except (ssl.SSLError, ConnectionError):
        return None
    finally:
        connection.close()


def look_until(page: Page, url: str, text: str) -> None:
    """The list is looked at again until the worker has fetched what a node refused."""
    row = page.get_by_role("row", name=text)
    for _ in range(FETCHED // 500):
        page.goto(url)
        if row.count():
            return
        page.wait_for_timeout(500)
    raise AssertionError(f"{text} was not shown at {url}")


@pytest.mark.timeout(180)
def test_who_failed_the_handshake_is_trusted_and_mapped_with_a_few_clicks(
    console: Page, installation: Installation, tmp_path: Path
) -> None:
    new_ca = authority("CN=New Partner CA")
    stranger = mint("CN=stranger,O=New Partner", new_ca)
    assert call(installation, tmp_path, stranger, new_ca) is None

    # It is shown with its certificate, where the handshake let it be seen, and who would have to be trusted.
    refused = f"{installation.url}/certificates/refused/"
    look_until(console, refused, "CN=stranger")
    row = console.get_by_role("row", name="CN=stranger")
    expect(row).to_contain_text("ext on edge, from 127.0.0.1")

    # His authority is trusted: the form is filled in, tells what that changes, and has saved nothing yet.
    row.get_by_role("link", name="Trust its authority…").click()
    expect(console.locator("[data-suggestion]")).to_contain_text("CN=New Partner CA")
    console.get_by_role("button", name="Save", exact=True).click()
    expect(console.get_by_role("status")).to_contain_text("is saved")
    installation.settle()
    assert call(installation, tmp_path, stranger, new_ca) == (403, "certificate_unmapped")

    # He is known to be real now, and mapped to nobody: that is one form further.
    look_until(console, refused, "mapped to nobody")
    console.get_by_role("row", name="CN=stranger").get_by_role("link", name="Look, and map").click()
    main = console.get_by_role("main")
    expect(main).to_contain_text("CN=stranger, O=New Partner")
    console.get_by_label("Runs as user").select_option(label="alice")
    console.get_by_role("button", name="What would change?").click()
    expect(main.get_by_role("heading", name="What would change")).to_be_visible()
    console.get_by_role("button", name="Save", exact=True).click()
    expect(console.get_by_role("status")).to_contain_text("is saved")
    installation.settle()
    assert call(installation, tmp_path, stranger, new_ca) == (403, "acl_denied")  # as alice, whom the ACL keeps out
