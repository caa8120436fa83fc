"""From nothing to the first test invoke, as a new administrator does it; and what he finds when it is refused."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PASSWORD, TIMEOUT, log_in
from tests.browser.installation import ROOT, Installation


class Nothing(Installation):
    """A console and its worker; nothing is configured, and no node runs."""

    nodes = ()

    def __enter__(self) -> "Nothing":
        try:
            self._manage("migrate", "--noinput", "-v0")
            self._start("console", "runserver", "--noreload", f"127.0.0.1:{self.ports['console']}")
            self._start("worker", "worker")
            self._add_operator()
            self._wait_for_port("console")
        except BaseException:
            self._stop()
            raise
        return self

    def run(self, name: str, command: str) -> None:
        """What the page told to copy, as a shell would run it."""
        there, what = command.split(" && ")
        assert shlex.split(there) == ["cd", str(ROOT)]
        python, *words = shlex.split(what)
        assert Path(ROOT, python).resolve() == Path(sys.executable).resolve()
        with (self.folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, *words], env=self._environment(), cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
            )


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nothing]:
    with Nothing(tmp_path_factory.mktemp("f"), "olivia", PASSWORD) as place:
        yield place  # type: ignore[misc]


@pytest.fixture
def console(page: Page, installation: Nothing, troubles: list[str]) -> Page:
    page.set_default_timeout(TIMEOUT)
    log_in(page, installation.url, SimpleNamespace(username="olivia"))  # type: ignore[arg-type]
    return page


def make(page: Page, step: str) -> None:
    page.get_by_role("button", name="Make this").click()
    expect(page.get_by_role("status")).to_contain_text(step.lower())


@pytest.mark.timeout(240)
def test_from_nothing_to_a_green_test_and_to_the_first_refusal(console: Page, installation: Nothing) -> None:
    console.get_by_role("link", name="Lead me through it").click()
    for step in ("Certificates", "The edge", "The internal node", "A service", "A caller"):
        make(console, step)
    for node in ("edge", "inside"):
        installation.run(node, console.locator(f"[data-command={node}]").inner_text())
    button = console.get_by_role("button", name="Test invoke", exact=True)
    button.wait_for(timeout=40_000)  # the page looks again by itself until both run
    button.click()
    expect(console.locator("[data-status]")).to_have_text("200")
    expect(console.locator("[data-identity]")).to_contain_text("partner-one")
    expect(console.get_by_role("heading", name="It works")).to_be_visible()

    # What is refused is found again by the number that its caller was told.
    console.get_by_role("link", name="Test invoke", exact=True).last.click()
    console.get_by_label("Path").fill("/hello")
    console.get_by_label("nobody: no credential").check()
    console.get_by_role("button", name="Test invoke", exact=True).click()
    expect(console.locator("[data-status]")).to_have_text("401 authentication_required")
    trace = console.locator("h2 .mono").first.inner_text().removeprefix("trace ")
    expect(console.locator("[data-curl]")).to_contain_text("/hello")

    # It is kept as a test, and run with the others.
    console.get_by_role("button", name="Keep it as a test…").click()
    expect(console.get_by_label("Status")).to_have_value("401")
    console.get_by_label("Name", exact=True).fill("strangers")
    console.get_by_role("button", name="Save").click()
    console.get_by_role("button", name="Run all").click()
    expect(console.locator("main")).to_contain_text("all 1 as expected", timeout=30_000)

    expect(console.get_by_role("link", name="strangers")).to_be_visible()
    search(console, installation, trace)
    expect(console.locator("[data-refusal]")).to_contain_text("inside refused at the check “ACL”")
    console.get_by_role("link", name="Open ACL Partners").click()
    expect(console.get_by_role("heading", name="Partners", level=1)).to_be_visible()


def search(page: Page, installation: Any, trace: str) -> None:
    """The worker asks every two seconds: until it has, the list is looked at again."""
    for _ in range(80):
        page.goto(f"{installation.url}/refusals/?q={trace}")
        if page.url.endswith(f"/{trace}/"):
            return
        page.wait_for_timeout(500)
    raise AssertionError(f"trace {trace} was not fetched")
