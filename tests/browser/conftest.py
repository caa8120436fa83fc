"""A real Chromium before a live console. What is missing fails with what to install; nothing is skipped."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from console.models import Operator, Role
from tests import predefined

ARGUMENTS = [
    "--no-sandbox",  # Chromium refuses its sandbox to root, as which containers run
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT = 30_000  # milliseconds that a click or a page waits
PICTURES = Path(__file__).resolve().parents[2] / "test-results" / "ends"
PASSWORD = "a password of some words"
expect.set_options(timeout=TIMEOUT)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These come last: each empties the database when it ends, the predefined rows too."""
    for item in items:
        if _is_here(item):
            item.add_marker(pytest.mark.browser)
    items.sort(key=_is_here)


def _is_here(item: pytest.Item) -> bool:
    return "tests/browser/" in item.path.as_posix()


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    """The system's Chromium: nothing is downloaded."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("Browser tests need Chromium: apt-get install chromium", pytrace=False)
    return {"executable_path": path, "args": ARGUMENTS, "headless": True}


@pytest.fixture(scope="session")
def base_url() -> None:
    """Tests name their addresses whole. (The plugin's own fixture of this name is deprecated by pytest.)"""


@pytest.fixture(scope="session", autouse=True)
def _queries_beside_the_browser() -> Iterator[None]:
    """Playwright's loop makes Django take every query for one inside async code, which it is not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        yield


@pytest.fixture
def troubles(page: Page, request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """What the page complained of: errors of scripts, refusals by the content security policy. None may be left.

    How it looked in the end is left in `test-results/ends`, for whoever reads what CI found.
    """
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    yield found
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{request.node.originalname}.png", full_page=True)
    # A refused form answers 422, which the browser notes as a resource that failed to load.
    assert [each for each in found if "422" not in each] == []


@pytest.fixture
def owner(transactional_db: None) -> Operator:
    """Before an installation with its predefined rows and one operator."""
    predefined.bring_back()  # whichever test was the one before
    return Operator.objects.create_operator("olivia", PASSWORD, Role.OWNER)


@pytest.fixture
def console(page: Page, live_server: Any, owner: Operator, troubles: list[str]) -> Page:
    """A page that is logged in as `owner` and stands at the overview."""
    page.set_default_timeout(TIMEOUT)
    log_in(page, live_server.url, owner)
    return page


def log_in(page: Page, url: str, operator: Operator) -> None:
    """From the login page to the overview, as a person does it."""
    page.goto(f"{url}/login/")
    page.get_by_label("Username").fill(operator.username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{url}/")
