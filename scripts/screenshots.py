"""Pictures of the web page's tabs for docs/, and the time from a click to the first row.

python scripts/screenshots.py docs/page

Needs Chromium (CHROMIUM names another) and the extras web and web-tests.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "assets" / "demo.png"
ARGUMENTS = ["--no-sandbox", "--disable-gpu"]
WAIT = 120_000  # ms
CLICKS = 3
# In the browser itself: Playwright looks for what it waits for every half second only.
FIRST_ROW = """wait => new Promise((done, failed) => {
    const began = performance.now();
    setTimeout(() => failed(new Error("no row was seen")), wait);
    new MutationObserver(async (_, observer) => {
        const image = document.querySelector("#picture img");
        if (!image) return;
        observer.disconnect();
        await image.decode().catch(() => {});  // the next row took its place
        done((performance.now() - began) / 1000);
    }).observe(document.body, {childList: true, subtree: true, attributes: true});
    document.querySelector("#draw").click();
})"""


@contextmanager
def served() -> Iterator[str]:
    """The address of the page of emu3-mini, once everything is compiled."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "emu3.cli.web", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
            if "compiled within" in line:
                break
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def seconds_to_first_row(page: Page, url: str) -> float:
    """From a click on a fresh page to the first row of a picture on it."""
    page.goto(url)
    page.wait_for_selector("#draw")
    page.wait_for_timeout(1000)
    seconds = page.evaluate(FIRST_ROW, WAIT)
    expect(page.locator("#status")).to_contain_text("done", timeout=WAIT)
    return seconds


def tabs(page: Page, url: str) -> Iterator[str]:
    """Each tab's name once something stands in it; the first one holds a picture already."""
    yield "create"
    page.get_by_role("tab", name="Ask").click()
    page.set_input_files("#question input[type=file]", DEMO)
    box = page.locator("#question textarea")
    box.fill("Please describe the image")
    box.press("Enter")
    expect(page.locator(".bot.message")).to_have_text(re.compile(r"\w\W*$"), timeout=WAIT)
    page.wait_for_timeout(3000)
    yield "ask"
    page.get_by_role("tab", name="Edit").click()
    page.set_input_files("#pictures input[type=file]", DEMO)
    page.locator("#change textarea").fill("make the house blue")
    page.click("#apply")
    expect(page.locator("#edit_status")).to_contain_text("done", timeout=WAIT)
    yield "edit"
    page.get_by_role("tab", name="Rebuild").click()
    page.set_input_files("#original input[type=file]", DEMO)
    expect(page.locator("#lost")).to_contain_text("dB", timeout=WAIT)
    yield "rebuild"


def main() -> None:
    """Write the pictures into the folder named on the command line."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    browser_path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with served() as url, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path, args=ARGUMENTS)
        page = browser.new_page(locale="en", viewport={"width": 1000, "height": 760})
        page.set_default_timeout(WAIT)
        for number in range(CLICKS):
            seconds = seconds_to_first_row(page, url)
            print(f"click {number + 1}: first row after {seconds:.2f} s", flush=True)
        for name in tabs(page, url):
            page.wait_for_timeout(500)
            page.screenshot(path=folder / f"{name}.png")
            print(folder / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
