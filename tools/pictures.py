"""Take the pictures of README and docs anew: `python -m tools.pictures`, or `make pictures`.

Of the demo, in a home of its own that is gone afterwards, before the system's Chromium. What they show is in
`docs/images`; whoever changes how a page looks takes them again.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
OWN = "chosen for a picture"  # the operator's password
START_SECONDS = 60.0
PAUSE = 0.5  # seconds between two looks whether something is there
SETTLE_MILLISECONDS = 60_000  # until the nodes' links stand and the page shows it


def main() -> None:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        raise SystemExit("Pictures need Chromium: apt-get install chromium")
    with (
        tempfile.TemporaryDirectory(prefix="p") as folder,
        demo(Path(folder)) as (url, password),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
        log_in(page, url, password)
        overview(page, url)
        test_invoke(page, url)
        browser.close()


@contextmanager
def demo(home: Path) -> Iterator[tuple[str, str]]:
    """The demo runs; the console's address, and the first operator's one-time password."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        bind = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = os.environ | {"POSTERN_HOME": str(home), "CONSOLE_BIND": bind}
    run = [sys.executable, str(ROOT / "manage.py")]
    subprocess.run([sys.executable, "-m", "console.environment"], cwd=ROOT, env=environment, check=True)
    told = subprocess.run(
        [*run, "prepare", "--demo"], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    ).stdout
    found = re.search(r"one-time password: (\S+)", told)
    if found is None:
        raise SystemExit(f"No one-time password was told: {told}")
    with (home / "serve.log").open("wb") as log:
        serving = subprocess.Popen([*run, "serve"], cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(bind, serving, home / "serve.log")
        yield f"http://{bind}", found[1]
    finally:
        serving.terminate()
        serving.wait(30)


def wait_for(bind: str, serving: "subprocess.Popen[bytes]", log: Path) -> None:
    host, _, port = bind.partition(":")
    end = time.monotonic() + START_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        if serving.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"The demo does not serve: {log.read_text()[-2000:]}")
        time.sleep(PAUSE)


def log_in(page: Page, url: str, password: str) -> None:
    page.goto(f"{url}/login/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    page.get_by_label("Current password").fill(password)
    page.get_by_label("New password", exact=True).fill(OWN)
    page.get_by_label("New password again").fill(OWN)
    page.get_by_role("button", name="Change password").click()
    page.get_by_role("status").wait_for()


def overview(page: Page, url: str) -> None:
    """The way of a partner through the drawing."""
    page.goto(f"{url}/?way=1&certificate=alice&path=/orders")
    page.get_by_role("cell", name="healthy").wait_for(timeout=SETTLE_MILLISECONDS)
    take(page, "overview")


def test_invoke(page: Page, url: str) -> None:
    """Why a partner whom nobody mapped is refused."""
    page.goto(f"{url}/invoke/")
    page.get_by_label("Port").select_option("ext")
    page.get_by_label("Path").fill("/orders")
    stranger = page.get_by_label("Certificate", exact=True).locator("option", has_text="stranger").first
    page.get_by_label("Certificate", exact=True).select_option(value=stranger.get_attribute("value"))
    page.get_by_role("button", name="Test invoke").click()
    page.locator("[data-refusal]").wait_for()
    take(page, "test-invoke")


def take(page: Page, name: str) -> None:
    page.screenshot(path=IMAGES / f"{name}.png", full_page=True)
    print(f"docs/images/{name}.png")


if __name__ == "__main__":
    main()
