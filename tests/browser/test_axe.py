"""Every page before axe, light and dark, narrow and wide; no page asks for what the content policy forbids.

The pages are those that `tests.console.test_access` walks over, so that a new one is looked at too. Each is loaded
once, and a picture of each view of it is left in `test-results/pages`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import LazySettings
from django.db.models import Model
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from console.models import Operator
from gateway import enrolments, rotation
from gateway.models import Enrolment, NodeStatus
from identity.core import authority
from tests import factories
from tests.browser.conftest import TIMEOUT, log_in
from tests.console.conftest import one_of_each
from tests.console.test_access import address, names
from tests.factories import NodeFactory

PICTURES = Path(__file__).resolve().parents[2] / "test-results" / "pages"
WCAG = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], "resultTypes": ["violations"]}
WIDTHS, SCHEMES = (390, 1440), ("light", "dark")
# Colours follow the scheme alone, and places the width alone: between them these two views have both of each.
EXAMINED = {(390, "dark"), (1440, "light")}
PARTS_OF_THE_WALK = 2  # so that two processes may walk
# Kept for the whole page, whatever else it loads. A page that comes anew by itself would do so under our eyes.
LISTEN = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
});
document.addEventListener("readystatechange", () => document.querySelector("meta[name=reload]")?.remove());
"""
PARTS = {"overview-live"}  # of a page that is looked at whole
# Pages that are worth a look with something in them: name of the picture → address.
MORE = {
    "overview-way": "/?way=1&certificate=alice&path=/orders",
    "overview-way-refused": "/?way=1&certificate=nobody",
    "users-list-empty": "/users/?q=nobody-like-this",
    "nobody-there": "/no/such/page",
}


@pytest.fixture
def view(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(TIMEOUT)
    page.add_init_script(LISTEN)
    yield page
    context.close()


def complaints(page: Page) -> list[str]:
    """What axe finds wrong, each with the first elements that it means; and what the policy forbade."""
    forbidden = page.evaluate("window.violations")
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(Axe().axe_script)
    found = page.evaluate("options => axe.run(document, options)", WCAG)["violations"]
    return [f"policy: {each}" for each in forbidden] + [
        f"{each['id']}: {each['help']}: " + "; ".join(
            f"{node['html'][:160]} {node['any'][0]['message'] if node['any'] else ''}" for node in each["nodes"][:4]
        )
        for each in found
    ]  # fmt: skip


def look(page: Page, name: str) -> list[str]:
    """A picture of each view of the page that is open; what is wrong with it."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    found = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        if (wide := page.evaluate("document.documentElement.scrollWidth")) > width:
            found.append(f"{name} at {width}: {wide} wide")
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.screenshot(path=PICTURES / f"{name}-{width}-{scheme}.png", full_page=True)
            if (width, scheme) in EXAMINED:
                found += [f"{name} at {width}, {scheme}: {each}" for each in complaints(page)]
    return found


def addresses(world: Mapping[str, Model], owner: Operator) -> dict[str, str]:
    """Name of the picture → address, of every page for which somebody must have logged in."""
    return {name: address(name, world, owner.pk) for name in sorted(set(names()) - PARTS)} | MORE


@pytest.mark.timeout(420)
@pytest.mark.parametrize("part", range(PARTS_OF_THE_WALK))
def test_no_page_has_a_barrier_or_breaks_the_policy(view: Page, live_server: Any, owner: Operator, part: int) -> None:
    world: dict[str, Model] = one_of_each()
    found = []
    view.goto(f"{live_server.url}/login/")
    if part == 0:
        found += look(view, "login")
    log_in(view, live_server.url, owner)
    if part == 0:
        found += look(refused_form(view, live_server.url), "users-add-refused")
    for name, path in list(addresses(world, owner).items())[part::PARTS_OF_THE_WALK]:
        if "text/html" in view.request.get(live_server.url + path).headers["content-type"]:  # others are files to keep
            view.goto(live_server.url + path)
            found += look(view, name)
    assert found == [], "\n".join(found)


def test_the_authority_while_it_is_exchanged(view: Page, live_server: Any, owner: Operator, settings: Any) -> None:
    """Every standing that a node can have, and what is asked before the old one is dropped."""
    settings.CONSOLE_NODES_ADDRESS = ["console.example:9444"]
    nodes = [NodeFactory(name=name, role="internal") for name in ("moved", "told", "untold", "cut-off", "ended")]
    for node in nodes:
        bundle = enrolments.offer(node, "test", None)
        enrolments.certify(node.name, authority.request(authority.new_key(), node.name), bundle.key)
    rotation.begin("test")
    signs, now = enrolments.authority_row().fingerprint, timezone.now()
    for node in nodes[:2]:
        NodeStatus.objects.create(node=node, courier="one", linked=True, since=now, heard=now, authorities=[signs])
    standing = Enrolment.objects.filter
    standing(node__name="moved").update(authority=signs)
    standing(node__name="cut-off").update(authority="ab" * 32)
    standing(node__name="ended").update(certificate_ends=now)
    log_in(view, live_server.url, owner)
    view.goto(f"{live_server.url}/authority/")
    assert view.get_by_label("untold").count() == view.get_by_role("button", name="Drop the old authority").count() == 1
    found = look(view, "authority-exchanged")
    view.goto(f"{live_server.url}/nodes/{nodes[3].pk}/")
    found += look(view, "nodes-edit-lost")
    rotation.drop_old("test", giving_up=["told", "untold"])
    view.goto(f"{live_server.url}/authority/")
    found += look(view, "authority-in-use")
    assert found == [], "\n".join(found)


def refused_form(page: Page, url: str) -> Page:
    page.goto(f"{url}/users/add/")
    page.get_by_label("Name", exact=True).fill("no blanks please")
    page.get_by_role("button", name="Add a user").click()
    page.get_by_role("alert").wait_for()
    return page


def test_who_asks_too_often_is_told_so(view: Page, live_server: Any, owner: Operator, settings: LazySettings) -> None:
    settings.CONSOLE_COSTLY_PER_MINUTE = 1
    user = factories.UserFactory(name="alice")
    log_in(view, live_server.url, owner)
    for _ in range(2):
        answer = view.goto(f"{live_server.url}/users/{user.pk}/?access=1")
    assert answer is not None and answer.status == 429
    expect(view.get_by_role("heading", name="Too much at once")).to_be_visible()
    assert look(view, "too-often") == []


def test_what_is_forbidden_would_be_told(view: Page, live_server: Any, owner: Operator) -> None:
    """The check itself: a picture without words, and a style that the policy forbids."""
    log_in(view, live_server.url, owner)
    view.goto(f"{live_server.url}/users/")
    assert complaints(view) == []
    for bad in ("<img src=/static/console/icon.svg>", "<p style=color:red>red</p>"):
        view.evaluate(f"document.querySelector('main').insertAdjacentHTML('beforeend', '{bad}')")
    view.wait_for_function("window.violations.length")
    assert {each.partition(":")[0] for each in complaints(view)} >= {"policy", "image-alt"}
