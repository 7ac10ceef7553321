"""The page in a real browser: it draws, answers, rebuilds, refuses, and serves two at once."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from emu3.cli import serve, web
from emu3.cli.options import Device
from tests.web.conftest import served

ROOT = Path(__file__).resolve().parents[2]
SECRET = ROOT / "setup.cfg"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WAIT = 60_000  # ms


@pytest.fixture(scope="session")
def page_url(models, tmp_path_factory) -> Iterator[str]:
    """The address of the page, which keeps pictures in `kept`."""
    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("uploads"))
    options = web.Options(serving=serve.Serving(), device=Device())
    app = web.mount(serve.application(options, models), options, None)
    with served(app) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert path, "Chromium is needed: apt-get install chromium, or CHROMIUM=its path"
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, page_url) -> Iterator[Page]:
    """The page, freshly loaded."""
    with_page = opened(browser, page_url)
    yield with_page
    with_page.close()


def opened(browser: Browser, url: str, locale: str = "en") -> Page:
    page = browser.new_page(locale=locale)
    page.set_default_timeout(WAIT)
    page.goto(url)
    page.wait_for_selector("#draw")
    return page


def sources(page: Page) -> set[str]:
    """Addresses of the pictures shown while one is drawn, the finished one included."""
    found: set[str] = set()
    page.click("#draw")
    picture = page.locator("#picture img")
    expect(picture).to_be_visible(timeout=WAIT)
    while not page.locator("#status", has_text="done").is_visible():
        found.add(picture.get_attribute("src") or "")
    return found | {picture.get_attribute("src") or ""}


def test_a_picture_is_seen_growing(page):
    assert len(sources(page)) > 1
    expect(page.locator("#status")).to_contain_text("tokens/s")


def test_a_stopped_picture_stays(page):
    page.click("#draw")
    picture = page.locator("#picture img")
    expect(picture).to_be_visible(timeout=WAIT)
    page.click("#stop")
    page.wait_for_timeout(500)
    expect(picture).to_be_visible()


def test_two_visitors_at_once_get_each_a_picture(browser, page_url):
    both = [opened(browser, page_url) for _ in range(2)]
    for visitor in both:
        visitor.click("#draw")
    for visitor in both:
        expect(visitor.locator("#status")).to_contain_text("done", timeout=WAIT)
        visitor.close()


def test_a_page_reloaded_in_the_middle_draws_again(page):
    page.click("#draw")
    page.reload()
    page.wait_for_selector("#draw")
    assert sources(page)


def test_a_question_is_answered(page):
    page.get_by_role("tab", name="Ask").click()
    page.set_input_files("#question input[type=file]", ROOT / "assets/demo.png")
    box = page.locator("#question textarea")
    box.fill("How many shapes are there?")
    box.press("Enter")
    expect(page.locator(".bot.message")).to_have_text(re.compile(r"\w"), timeout=WAIT)


def test_a_picture_is_rebuilt_and_its_loss_told(page):
    page.get_by_role("tab", name="Rebuild").click()
    page.set_input_files("#original input[type=file]", ROOT / "assets/demo.png")
    expect(page.locator("#lost")).to_contain_text("dB", timeout=WAIT)


def test_a_file_that_is_no_picture_is_refused(page, tmp_path):
    file = tmp_path / "wrong.png"
    file.write_text("this is no picture")
    page.get_by_role("tab", name="Rebuild").click()
    page.set_input_files("#original input[type=file]", file)
    expect(page.locator(".toast-body")).to_contain_text("cannot be read", timeout=WAIT)


def test_a_decompression_bomb_is_refused(page, tmp_path):
    file = tmp_path / "bomb.png"
    Image.new("1", (10000, 5000)).save(file)
    page.get_by_role("tab", name="Rebuild").click()
    page.set_input_files("#original input[type=file]", file)
    expect(page.locator(".toast-body")).to_contain_text("10000x5000 pixels", timeout=WAIT)


def test_a_script_in_a_question_is_shown_as_text(page):
    page.get_by_role("tab", name="Ask").click()
    box = page.locator("#question textarea")
    box.fill("<img src=x onerror=\"document.title='taken'\"> who are you?")
    box.press("Enter")
    expect(page.locator(".bot.message")).to_be_visible(timeout=WAIT)
    assert "taken" not in page.title()


def test_chinese_browsers_see_chinese(browser, page_url):
    page = opened(browser, page_url, "zh-CN")
    expect(page.locator("#draw")).to_have_text("开始")
    page.close()


@pytest.mark.parametrize("path", [str(SECRET), "/etc/passwd", "../setup.cfg"])
@pytest.mark.parametrize("route", ["/gradio_api/file=", "/file=", "/gradio_api/static/"])
def test_no_file_of_the_machine_is_read(page, page_url, route, path):
    assert page.request.get(f"{page_url}{route}{path}").status in (403, 404)


def test_nothing_is_fetched_from_elsewhere(browser, page_url):
    page, outside = browser.new_page(), []
    page.on("requestfinished", lambda request: outside.append(request.url))
    page.goto(page_url)
    page.wait_for_selector("#draw")
    assert [url for url in outside if not url.startswith((page_url, "data:", "blob:"))] == []
    page.close()
