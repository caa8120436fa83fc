"""The story of the product, as an administrator lives it: before a real browser, through two real nodes."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PASSWORD, TIMEOUT, log_in
from tests.browser.installation import Installation
from tests.factories import partner_ca
from tests.minting import mint

SUBJECT = "CN=alice,O=Partner One"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    # Short, for the path of a socket has a limit of its own.
    with Installation(tmp_path_factory.mktemp("i"), "olivia", PASSWORD) as place:
        yield place


@pytest.fixture
def console(page: Page, installation: Installation, troubles: list[str]) -> Page:
    page.set_default_timeout(TIMEOUT)
    log_in(page, installation.url, SimpleNamespace(username="olivia"))  # type: ignore[arg-type]
    return page


def open_from_list(page: Page, kind: str, name: str) -> None:
    page.get_by_role("navigation", name="Main").get_by_role("link", name=kind).click()
    page.get_by_role("main").get_by_role("link", name=name, exact=True).first.click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()


def save(page: Page) -> None:
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("is saved")


def invoke_as_alice(page: Page, button: str = "Test invoke") -> Any:
    """Send GET /orders at port ext as the certificate alice; the line of identity."""
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Test invoke").click()
    page.get_by_label("Port").select_option("ext")
    page.get_by_label("Path").fill("/orders")
    page.get_by_label("a certificate on file").check()
    page.get_by_label("Certificate", exact=True).select_option(label=option_of(page, "alice:"))
    page.get_by_role("button", name=button, exact=True).click()
    return page.locator("[data-identity]")


def option_of(page: Page, beginning: str) -> str:
    labels = page.get_by_label("Certificate", exact=True).locator("option").all_inner_texts()
    return next(label for label in labels if label.startswith(beginning))


@pytest.mark.timeout(180)
def test_from_a_certificate_to_a_user_and_back(console: Page, installation: Installation, tmp_path: Path) -> None:
    # Upload: nothing is stored before the preview is saved.
    file = tmp_path / "alice.cer"
    file.write_bytes(mint(SUBJECT, partner_ca(), san=["dns:alice.partner.example"]).der)
    console.get_by_role("navigation", name="Main").get_by_role("link", name="Certificates").click()
    console.get_by_role("link", name="Add a certificate").click()
    console.get_by_label("File").set_input_files(file)
    console.get_by_role("button", name="Preview").click()
    main = console.get_by_role("main")
    expect(main).to_contain_text("CN=alice, O=Partner One")
    expect(main).to_contain_text("dns:alice.partner.example")
    expect(main).to_contain_text("Chains to truststore partners. Ports that ask by it: dial, ext.")
    expect(main).to_contain_text("Not on file yet.")

    # Map it.
    console.get_by_label("Runs as user").select_option(label="alice")
    save(console)
    expect(main.locator(".identity")).to_contain_text("runs as alice")
    installation.settle()

    # The port inside shows nothing yet, and says so before it asks who calls.
    expect(invoke_as_alice(console)).to_contain_text("403 service_not_on_port")
    expect(main).to_contain_text("inside refused at the check “port access”")

    # Add the service to the port.
    console.get_by_role("link", name="Open port dial").click()
    console.get_by_role("textbox", name="Allowed").first.fill("orders")
    save(console)
    installation.settle()

    # The certificate is known, and its user's group is in no ACL.
    expect(invoke_as_alice(console)).to_contain_text("inside → alice 403 acl_denied")

    # Put the group into the ACL.
    console.get_by_role("link", name="Open ACL Orders").click()
    console.get_by_label("Partners: allowed").check()
    save(console)
    installation.settle()

    # Now it runs as alice, and the page shows by what each node came to that.
    expect(invoke_as_alice(console)).to_contain_text("CN=alice, O=Partner One edge → hands it on, inside → alice 200")
    expect(console.locator("pre.body:not([data-curl])")).to_contain_text('"user": "alice"')
    inside = console.locator("[data-lane=inside]")
    expect(inside).to_contain_text("mapped to user alice")
    expect(inside.locator("li.failed")).to_have_count(0)

    # Take the mapping away.
    open_from_list(console, "Certificates", "alice")
    console.get_by_role("link", name="Take the mapping away…").click()
    expect(console.locator("#outlook")).to_contain_text("certificate_unmapped")
    console.get_by_role("button", name="Take the mapping away").click()
    expect(console.get_by_role("status")).to_contain_text("mapped to nobody now")
    installation.settle()

    # A certificate that is mapped to nobody never becomes Default; the check that refused is named.
    line = invoke_as_alice(console)
    expect(line).to_contain_text("403 certificate_unmapped")
    expect(line).not_to_contain_text("Default")
    expect(console.locator("[data-refusal]")).to_contain_text("inside refused at the check “mapping”")
    expect(console.locator("[data-lane=inside] li.failed")).to_contain_text("mapping")
    expect(console.locator("[data-lane=edge] li.failed")).to_have_count(0)

    # Simulating it comes to the same, and all of it is in the audit log.
    expect(invoke_as_alice(console, "Simulate")).to_contain_text("403 certificate_unmapped")
    expect(main).to_contain_text("Simulated: nothing was sent")
    console.get_by_role("navigation", name="Main").get_by_role("link", name="Changes").click()
    expect(main).to_contain_text("test invoke: GET /orders at ext")
    expect(main).to_contain_text("Certificate alice is mapped to nobody now")


def test_the_overview_shows_what_runs(console: Page, installation: Installation) -> None:
    main = console.get_by_role("main")
    expect(main.get_by_text("running", exact=True)).to_have_count(2)
    expect(main.get_by_text("listening", exact=True)).to_have_count(2)
    expect(main.get_by_text("connected", exact=True)).to_have_count(1)
    expect(main.get_by_text("healthy", exact=True).first).to_be_visible()


def test_of_a_credential_only_the_fields_of_its_kind_are_shown(console: Page, installation: Installation) -> None:
    console.goto(f"{installation.url}/invoke/")
    kinds = {
        "a certificate on file": "Certificate",
        "a keystore's certificate": "Keystore",
        "a user with password": "Password",
    }
    for chosen, field in kinds.items():
        console.get_by_label(chosen).check()
        for each in kinds.values():
            expect(console.get_by_label(each, exact=True)).to_be_visible(visible=each == field)
    console.get_by_label("nobody: no credential").check()
    for each in kinds.values():
        expect(console.get_by_label(each, exact=True)).to_be_hidden()
