"""The page in a real browser: it draws, answers, edits, rebuilds, refuses, serves two at once."""

import io
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright
from playwright.sync_api import Page as Shown

import emu3
from emu3.cli import serve, web
from emu3.cli.options import Device
from emu3.facade import Emu3
from emu3.web.desk import Limits
from emu3.web.handlers import Page
from emu3.web.tasks import Draw, Finished
from tests.support import write_tiny_checkpoint
from tests.web.conftest import served

ROOT = Path(__file__).resolve().parents[2]
SECRET = ROOT / "setup.cfg"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WAIT = 60_000  # ms


@pytest.fixture(scope="session")
def page_url(models, tmp_path_factory) -> Iterator[str]:
    """The address of the page, which keeps pictures in `kept`."""
    with shown(models, tmp_path_factory.mktemp("uploads")) as address:
        yield address


@pytest.fixture
def filming_url(tmp_path, monkeypatch) -> Iterator[str]:
    """The address of the page of a tiny checkpoint that states how it is asked for clips."""
    stated = {"video_prefix_template": "{H}*{W}*{T}*{F}", "video_frames": 8}
    with tiny_page(tmp_path, monkeypatch, stated) as address:
        yield address


@pytest.fixture
def still_url(tmp_path, monkeypatch) -> Iterator[str]:
    """The same of one that does not."""
    with tiny_page(tmp_path, monkeypatch, {}) as address:
        yield address


def tiny_page(folder: Path, monkeypatch, stated: dict) -> served:
    """The page of a tiny checkpoint whose config states so much more."""
    language, vision = write_tiny_checkpoint(folder)
    config = language / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | stated))
    uploads = folder / "uploads"
    uploads.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(uploads))  # and the other page's afterwards
    return shown(emu3.load(language, vision, device="CPU"), uploads)


def shown(models: Emu3, uploads: Path) -> served:
    """The page of models, answering while a block runs."""
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    options = web.Options(serving=serve.Serving(), device=Device())
    return served(web.mount(serve.application(options, models), options, uploads, None))


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
def page(browser, page_url) -> Iterator[Shown]:
    """The page, freshly loaded."""
    with_page = opened(browser, page_url)
    yield with_page
    with_page.close()


def opened(browser: Browser, url: str, locale: str = "en") -> Shown:
    page = browser.new_page(locale=locale)
    page.set_default_timeout(WAIT)
    page.goto(url)
    page.wait_for_selector("#draw")
    return page


def sources(page: Shown) -> set[str]:
    """Addresses of the pictures shown while one is drawn, the finished one included."""
    found: set[str] = set()
    page.click("#draw")
    picture = page.locator("#picture img")
    expect(picture).to_be_visible(timeout=WAIT)
    while not page.locator("#status", has_text="done").is_visible():
        found.add(picture.get_attribute("src") or "")
    return found | {picture.get_attribute("src") or ""}


def slowed(monkeypatch, seconds: float) -> list:
    """Drawing that rests after each event, so that it can be watched; the events so far."""
    events, run = [], Draw.run

    def slow(self, *arguments):
        for index, event in run(self, *arguments):
            events.append(event)
            time.sleep(seconds)
            yield index, event

    monkeypatch.setattr(Draw, "run", slow)
    return events


def test_a_picture_is_seen_growing(page, monkeypatch):
    slowed(monkeypatch, 0.5)
    assert len(sources(page)) > 1
    expect(page.locator("#status")).to_contain_text("tokens/s")


def test_a_stopped_picture_stays_as_it_is(page, monkeypatch):
    events = slowed(monkeypatch, 2)
    page.click("#draw")
    picture = page.locator("#picture img")
    expect(picture).to_be_visible(timeout=WAIT)
    page.click("#stop")
    made = 0
    while made < len(events):  # up to the end of it
        made = len(events)
        page.wait_for_timeout(3000)
    assert not any(isinstance(event, Finished) for event in events)
    expect(picture).to_be_visible()
    expect(page.locator("#status")).not_to_contain_text("done")


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
    expect(page.locator("#question .thumbnail-item")).to_have_count(1, timeout=WAIT)
    box = page.locator("#question textarea")
    box.fill("How many shapes are there?")
    box.press("Enter")
    expect(page.locator(".bot.message")).to_have_text(re.compile(r"\w"), timeout=WAIT)


def test_a_conversation_goes_on_with_further_pictures(page, models, monkeypatch):
    heard, conversation = [], models.prompts.conversation

    def listening(messages, *more, **named):
        heard.append([(m.role, [type(part).__name__ for part in m.parts]) for m in messages])
        return conversation(messages, *more, **named)

    monkeypatch.setattr(models.prompts, "conversation", listening)
    page.get_by_role("tab", name="Ask").click()
    box = page.locator("#question textarea")
    for number in (1, 2):
        page.set_input_files("#question input[type=file]", [ROOT / "assets/demo.png"] * number)
        expect(page.locator("#question .thumbnail-item")).to_have_count(number, timeout=WAIT)
        box.fill("What is it?")
        box.press("Enter")
        while len(heard) < number:
            page.wait_for_timeout(100)
        expect(page.get_by_label("Retry")).to_be_visible(timeout=WAIT)  # once an answer is whole
        expect(page.locator("#question .submit-button")).to_be_visible(timeout=WAIT)
        page.wait_for_timeout(1000)  # until the box has been given back
    first = ("user", ["Coded", "Text"])
    assert heard == [[first], [first, ("assistant", ["Text"]), ("user", ["Coded"] * 2 + ["Text"])]]


def test_a_picture_is_edited(page):
    page.get_by_role("tab", name="Edit").click()
    page.set_input_files("#pictures input[type=file]", ROOT / "assets/demo.png")
    page.locator("#change textarea").fill("make it blue")
    page.click("#apply")
    expect(page.locator("#edit_status")).to_contain_text("done", timeout=WAIT)
    expect(page.locator("#edited img")).to_be_visible()


def test_a_clip_is_made_and_one_is_rebuilt(browser, filming_url, tmp_path):
    page = opened(browser, filming_url)
    page.locator("#frames input[type=number]").fill("8")
    page.click("#draw")
    expect(page.locator("#status")).to_contain_text("done", timeout=WAIT)
    drawn = page.locator("#picture img").get_attribute("src")
    assert Image.open(io.BytesIO(page.request.get(drawn).body())).n_frames == 8
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green", "blue")]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:])
    page.get_by_role("tab", name="Rebuild").click()
    page.set_input_files("#original input[type=file]", tmp_path / "clip.gif")
    expect(page.locator("#lost")).to_contain_text("dB", timeout=WAIT)
    rebuilt = page.locator("#rebuilt img").get_attribute("src")
    assert Image.open(io.BytesIO(page.request.get(rebuilt).body())).n_frames == 3
    page.close()


def test_clips_are_shown_where_the_checkpoint_makes_them_alone(page, browser, still_url):
    expect(page.locator("#frames")).to_have_count(1)
    still = opened(browser, still_url)
    expect(still.locator("#frames")).to_have_count(0)
    still.close()


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


def test_a_handler_reads_what_was_sent_alone(models, tmp_path):
    page = Page(models, None, Limits(), tmp_path)
    with pytest.raises(gr.Error, match="not sent to this page"):
        page.rebuild(str(ROOT / "assets/demo.png"))


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
