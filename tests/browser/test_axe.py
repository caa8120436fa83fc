"""Every page before axe, light and dark, narrow and wide; no page asks for what the content policy forbids.

The pages are those that `tests.console.test_access` walks over, so that a new one is looked at too. A picture of each
is left in `test-results/pages`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.db.models import Model
from playwright.sync_api import Browser, Page

from console.models import Operator
from tests.browser.conftest import TIMEOUT, log_in
from tests.console.conftest import one_of_each
from tests.console.test_access import address, names

PICTURES = Path(__file__).resolve().parents[2] / "test-results" / "pages"
WCAG = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], "resultTypes": ["violations"]}
VIEWS = [(width, scheme) for width in (390, 1440) for scheme in ("light", "dark")]
# Kept for the whole page, whatever else it loads.
LISTEN = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
});
"""
PARTS = {"overview-live"}  # of a page that is looked at whole
# Pages that are worth a look with something in them: name of the picture → address.
MORE = {
    "overview-way": "/?way=1&certificate=alice&path=/orders",
    "overview-way-refused": "/?way=1&certificate=nobody",
    "users-list-empty": "/users/?q=nobody-like-this",
    "nobody-there": "/no/such/page",
}


@pytest.fixture(params=VIEWS, ids=[f"{width}-{scheme}" for width, scheme in VIEWS])
def view(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(TIMEOUT)
    page.add_init_script(LISTEN)
    yield page
    context.close()


def complaints(page: Page) -> list[str]:
    """What axe finds wrong, each with the first elements that it means; and what the policy forbade."""
    forbidden = page.evaluate("window.violations")
    found = Axe().run(page, options=WCAG).response["violations"]
    return [f"policy: {each}" for each in forbidden] + [
        f"{each['id']}: {each['help']}: " + "; ".join(
            f"{node['html'][:160]} {node['any'][0]['message'] if node['any'] else ''}" for node in each["nodes"][:4]
        )
        for each in found
    ]  # fmt: skip


def look(page: Page, name: str) -> list[str]:
    size = page.viewport_size
    assert size is not None
    scheme = "dark" if page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") else "light"
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}-{size['width']}-{scheme}.png", full_page=True)
    return [f"{name}: {each}" for each in complaints(page)]


@pytest.mark.timeout(420)
def test_no_page_has_a_barrier_or_breaks_the_policy(view: Page, live_server: Any, owner: Operator) -> None:
    world: dict[str, Model] = one_of_each()
    view.goto(f"{live_server.url}/login/")
    found = look(view, "login")
    log_in(view, live_server.url, owner)
    for name in sorted(set(names()) - PARTS):
        url = live_server.url + address(name, world, owner.pk)
        if "text/html" in view.request.get(url).headers["content-type"]:  # others are files to keep
            view.goto(url)
            found += look(view, name)
    for name, path in MORE.items():
        view.goto(live_server.url + path)
        found += look(view, name)
    found += look(refused_form(view, live_server.url), "users-add-refused")
    assert found == [], "\n".join(found)


def refused_form(page: Page, url: str) -> Page:
    page.goto(f"{url}/users/add/")
    page.get_by_label("Name", exact=True).fill("no blanks please")
    page.get_by_role("button", name="Add a user").click()
    page.get_by_role("alert").wait_for()
    return page


@pytest.mark.parametrize("view", [VIEWS[0]], indirect=True, ids=["390-light"])
def test_what_is_forbidden_would_be_told(view: Page, live_server: Any, owner: Operator) -> None:
    """The check itself: a picture without words, and a style that the policy forbids."""
    log_in(view, live_server.url, owner)
    view.goto(f"{live_server.url}/users/")
    assert complaints(view) == []
    for bad in ("<img src=/static/console/icon.svg>", "<p style=color:red>red</p>"):
        view.evaluate(f"document.querySelector('main').insertAdjacentHTML('beforeend', '{bad}')")
    view.wait_for_function("window.violations.length")
    assert {each.partition(":")[0] for each in complaints(view)} >= {"policy", "image-alt"}
