"""The chat page in headless Chromium: pictures, masks where they belong, files that can be read again, phone, keyboard.

Needs Chromium (`apt-get install chromium`) and `pip install playwright`.
"""

from __future__ import annotations

import io
import json
import shutil
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image

from miras.chat.answerers import Answerer
from miras.chat.app import build_app
from miras.chat.config import ChatLimits
from miras.dialogue.masks import decode
from miras.dialogue.records import Rle
from miras.model.records import Group, Response
from miras.model.talk import Said
from miras.sources.scenes import Scene, render_scene

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)"),
]

SEED, SIDE_PX = 14, 320
WAIT_MS = 60_000
HOSTILE_NAME = "<img src=x onerror=alert(1)>.png"


@dataclass(frozen=True)
class Site:
    """The page and what is behind it."""

    address: str
    corrections: Path


@dataclass(frozen=True)
class Told:
    """A saved dialogue about a rendered scene: its first two objects, marked exactly."""

    path: Path
    pixels: np.ndarray
    masks: tuple[np.ndarray, ...]
    phrases: tuple[str, ...]


@pytest.fixture
def site(answerers: list[Answerer], limits: ChatLimits, tmp_path: Path) -> Iterator[Site]:
    app = build_app(answerers, limits, corrections=tmp_path / "corrections")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield Site(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", tmp_path / "corrections")
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any, site: Site) -> Iterator[Any]:
    """A tab of 1280 px with the page open; nothing may go outside, no script may fail."""
    yield from opened(chromium, site, viewport={"width": 1280, "height": 800})


@pytest.fixture
def phone(chromium: Any, site: Site) -> Iterator[Any]:
    """The same on a phone of 390 px."""
    yield from opened(chromium, site, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)


def opened(chromium: Any, site: Site, **options: Any) -> Iterator[Any]:
    context = chromium.new_context(accept_downloads=True, **options)
    tab = context.new_page()
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("dialog", lambda dialog: faults.append(f"a script of a user ran: {dialog.message}"))
    tab.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((site.address, "data:", "blob:"))
            else faults.append(f"went outside: {request.url}")
        ),
    )
    tab.goto(site.address)
    tab.wait_for_selector(".sample img")
    yield tab
    context.close()
    assert faults == []


@pytest.fixture
def scene() -> Scene:
    return render_scene(SEED, size_px=SIDE_PX)


@pytest.fixture
def told(answerers: list[Answerer], scene: Scene, tmp_path: Path) -> Told:
    talk = answerers[0].model.dialogue(scene.pixels)
    objects = scene.objects[:2]
    masks = tuple(np.isin(scene.codes, list(item.parts.values())) for item in objects)
    phrases = tuple(f"{item.colour} {item.category}" for item in objects)
    answer = "There is the " + " and the ".join(f"[OBJ]{phrase}[SEG]" for phrase in phrases) + "."
    groups = tuple(Group(phrase, mask, 0.9) for phrase, mask in zip(phrases, masks, strict=True))
    talk.state.said = (Said("Which things are there?", (), Response(answer=answer, groups=groups, seconds=0.2)),)
    return Told(talk.save(tmp_path / "told"), scene.pixels, masks, phrases)


def upload(tab: Any, content: bytes, name: str = "scene.png") -> None:
    tab.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": content})


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def turns(tab: Any, count: int) -> None:
    """Waits until this many turns are finished."""
    found = tab.locator("#turns > li:not(.empty):not(.asking)")
    playwright.expect(found).to_have_count(count, timeout=WAIT_MS)
    playwright.expect(tab.locator(".asking")).to_have_count(0, timeout=WAIT_MS)


def ask(tab: Any, question: str) -> None:
    before = tab.locator("#turns > li:not(.empty)").count()
    tab.fill("#question", question)
    tab.keyboard.press("Enter")
    turns(tab, before + 1)


def load(tab: Any, told: Told) -> None:
    tab.set_input_files("#saved", told.path)
    turns(tab, 1)
    tab.wait_for_timeout(200)  # the masks are decoded and drawn


def shown(tab: Any, number: int = 0) -> np.ndarray:
    """The picture with its masks as the screen has it, [H, W, 3], in pixels of the picture."""
    tab.mouse.move(2, 2)
    tab.wait_for_timeout(150)
    content = tab.locator(".frame").nth(number).screenshot()
    with Image.open(io.BytesIO(content)) as image:
        resized = image.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    return np.asarray(resized).astype(int)


def inner(mask: np.ndarray, margin_px: int = 3) -> np.ndarray:
    """The mask without its border, which scaling blurs."""
    kept = mask.copy()
    for _ in range(margin_px):
        framed = np.pad(kept, 1)
        kept = kept & framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    return kept


def changed(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(one - other).max(axis=2) > 12


def click_mask(tab: Any, mask: np.ndarray) -> None:
    rows, columns = np.nonzero(inner(mask))
    middle = len(rows) // 2
    box = tab.locator(".frame canvas").first.bounding_box()
    x = box["x"] + (columns[middle] + 0.5) / SIDE_PX * box["width"]
    tab.mouse.click(x, box["y"] + (rows[middle] + 0.5) / SIDE_PX * box["height"])


def test_a_picture_is_uploaded_and_three_turns_are_asked_and_taken_back(page: Any, scene: Scene) -> None:
    upload(page, png(scene.pixels), HOSTILE_NAME)
    page.wait_for_selector(".empty")
    assert page.locator(".tab").inner_text().startswith(HOSTILE_NAME)
    for question in ("What is there?", "is [SEG] or <image> in it?", "<b>Which one</b>?"):
        ask(page, question)
    assert page.locator(".question").all_inner_texts()[1:] == ["is [SEG] or <image> in it?", "<b>Which one</b>?"]
    page.reload()
    turns(page, 3)
    page.keyboard.press("Escape")
    page.click("#undo")
    turns(page, 2)
    assert page.locator("#question").input_value() == "<b>Which one</b>?"


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_can_be_dropped_and_pasted(page: Any, scene: Scene, way: str) -> None:
    script = """([way, bytes]) => {
        const held = new DataTransfer();
        held.items.add(new File([new Uint8Array(bytes)], "held.png", { type: "image/png" }));
        const event = way === "drop"
            ? new DragEvent("drop", { dataTransfer: held, bubbles: true, cancelable: true })
            : new ClipboardEvent("paste", { clipboardData: held, bubbles: true, cancelable: true });
        document.body.dispatchEvent(event);
    }"""
    page.evaluate(script, [way, list(png(scene.pixels))])
    page.wait_for_selector(".empty")
    assert page.locator(".tab").inner_text().startswith("held.png")
    assert np.abs(shown(page) - scene.pixels).mean() < 4


def test_masks_lie_where_they_belong_and_can_be_switched(page: Any, told: Told) -> None:
    load(page, told)
    assert page.locator(".phrase").all_inner_texts() == list(told.phrases)
    with_masks = shown(page)
    page.click("#show-none")
    bare = shown(page)
    assert np.abs(bare - told.pixels).mean() < 4
    difference = changed(with_masks, bare)
    anywhere = np.logical_or(*told.masks)
    for mask in told.masks:
        assert difference[inner(mask)].mean() > 0.97
    assert difference[inner(~anywhere)].mean() < 0.01
    page.locator(".layer input").first.check()
    one = changed(shown(page), bare)
    assert one[inner(told.masks[0] & ~told.masks[1])].mean() > 0.97
    assert one[inner(told.masks[1] & ~told.masks[0])].mean() < 0.01
    page.locator("#opacity").fill("0")
    assert changed(shown(page), bare)[inner(told.masks[0])].mean() < 0.05
    page.locator(".layer").nth(1).hover()
    playwright.expect(page.locator(".phrase.hovered")).to_have_text(told.phrases[1])


def test_a_click_on_a_mask_makes_the_question_about_it(page: Any, told: Told) -> None:
    load(page, told)
    click_mask(page, told.masks[1] & ~told.masks[0])
    playwright.expect(page.locator("#about-chips .chip")).to_contain_text(told.phrases[1])
    ask(page, "What colour is this?")
    assert page.locator("#turns > li").nth(1).locator(".question .chip").inner_text() == told.phrases[1]
    playwright.expect(page.locator("#about-chips .chip")).to_have_count(0)
    page.click("#branch")
    playwright.expect(page.locator(".tab")).to_have_count(2)
    page.click("#undo")
    turns(page, 1)
    page.locator(".tab").first.click()
    turns(page, 2)


def test_downloads_can_be_read_again(page: Any, told: Told) -> None:
    load(page, told)

    def take(kind: str) -> bytes:
        page.click("#take summary")
        with page.expect_download() as waiting:
            page.click(f"#take-list a[data-kind={kind}]")
        return Path(waiting.value.path()).read_bytes()

    found = json.loads(take("coco"))
    codes = [
        Rle(size=item["segmentation"]["size"], counts=item["segmentation"]["counts"]) for item in found["annotations"]
    ]
    assert all(np.array_equal(decode(code), mask) for code, mask in zip(codes, told.masks, strict=True))
    with zipfile.ZipFile(io.BytesIO(take("png"))) as archive, Image.open(archive.open("turn1-mask2.png")) as image:
        assert np.array_equal(np.asarray(image) > 0, told.masks[1])
    with zipfile.ZipFile(io.BytesIO(take("labelme"))) as archive:
        labels = {shape["label"] for shape in json.loads(archive.read("picture.json"))["shapes"]}
    assert labels == set(told.phrases)
    assert take("dialogue") == told.path.read_bytes()


def test_two_models_side_by_side_on_a_laptop_and_a_phone(page: Any, phone: Any, scene: Scene) -> None:
    for tab in (page, phone):
        tab.select_option("#mode", "0,1")
        upload(tab, png(scene.pixels))
        tab.wait_for_selector("#work.pair")
        ask(tab, "What is there?")
        assert tab.locator(".frame").count() == 2
        assert tab.locator(".answer .who").all_inner_texts() == ["one", "two"]
        pictures = [shown(tab, number) for number in range(2)]
        assert changed(*pictures).any()  # other weights, other masks


def test_a_phone_shows_everything_without_scrolling_sideways(phone: Any, told: Told) -> None:
    load(phone, told)
    assert phone.evaluate("() => document.documentElement.scrollWidth") <= 390
    for name in ("#question", "#send", "#undo", "#branch", "#show-last", "#new-button", "#take", "#about-button"):
        box = phone.locator(name).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert box["y"] + box["height"] <= 844
    frame = phone.locator(".frame").bounding_box()
    assert frame["width"] > 200
    phone.locator(".layer-name").first.tap()
    playwright.expect(phone.locator("#about-chips .chip")).to_contain_text(told.phrases[0])
    phone.locator(".answer-end button").first.tap()
    save = phone.locator("#editor-save")
    save.scroll_into_view_if_needed()
    assert save.bounding_box()["x"] + save.bounding_box()["width"] <= 390


def test_a_corrected_mask_is_saved_as_a_sample_and_shown(page: Any, site: Site, told: Told) -> None:
    load(page, told)
    page.locator(".answer-end button").first.click()
    page.wait_for_selector("#editor[open]")
    page.locator(".edit-target button").nth(1).click()
    page.fill("#editor-text", f"Only the {told.phrases[0]}.")
    page.click("[data-tool=polygon][data-adds='1']")
    box = page.locator("#editor-canvas").bounding_box()
    for x, y in ((0.02, 0.02), (0.3, 0.02), (0.3, 0.3), (0.02, 0.3)):
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.keyboard.press("Enter")
    page.click("#editor-save")
    playwright.expect(page.locator("#toast")).to_contain_text(str(site.corrections))
    (path,) = (site.corrections / "conversations").glob("*.json")
    assert path.exists()
    (annotation,) = json.loads((site.corrections / "masks.json").read_text())["annotations"]
    mask = decode(Rle(size=annotation["segmentation"]["size"], counts=annotation["segmentation"]["counts"]))
    assert mask[20:90, 10:90].all()
    assert (mask & told.masks[0]).sum() == told.masks[0].sum()
    assert page.locator(".phrase").all_inner_texts() == [told.phrases[0]]
    drawn = shown(page)
    page.click("#show-none")
    assert changed(drawn, shown(page))[20:90, 12:90].mean() > 0.97


def test_the_keyboard_is_enough(page: Any, told: Told) -> None:
    load(page, told)
    page.keyboard.press("Escape")
    page.locator("body").evaluate("() => document.activeElement.blur()")
    page.keyboard.press("2")
    playwright.expect(page.locator("#about-chips .chip")).to_contain_text(told.phrases[1])
    page.keyboard.press("Escape")
    playwright.expect(page.locator("#about-chips .chip")).to_have_count(0)
    page.locator("body").evaluate("() => document.activeElement.blur()")
    page.keyboard.press("/")
    page.keyboard.type("And now?")
    page.keyboard.press("Enter")
    turns(page, 2)
    page.keyboard.press("Alt+z")
    turns(page, 1)
    page.locator("body").evaluate("() => document.activeElement.blur()")
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()


def test_what_goes_wrong_is_said_on_the_page(page: Any, scene: Scene, site: Site) -> None:
    said = page.locator("#message span")
    upload(page, b"no picture at all", HOSTILE_NAME)
    playwright.expect(said).to_contain_text("not a picture")
    upload(page, b"\0" * 1_100_000, "large.png")
    playwright.expect(said).to_contain_text("at most 1 MB")
    page.set_input_files("#saved", {"name": "x.miras.json", "mimeType": "application/json", "buffer": b"{}"})
    playwright.expect(said).to_contain_text("no saved dialogue")
    upload(page, png(scene.pixels))
    page.wait_for_selector(".empty")
    page.click("#send")
    playwright.expect(said).to_contain_text("empty")
    page.fill("#question", "word " * 10_000)
    page.keyboard.press("Enter")
    playwright.expect(said).to_contain_text("49,999 characters")
    assert len(page.locator("#question").input_value()) > 40_000  # nothing typed is lost
    page.route("**/ask", lambda route: route.abort())
    page.fill("#question", "Is anybody there?")
    page.keyboard.press("Enter")
    playwright.expect(said).to_contain_text("cannot be reached")
    assert page.locator("#question").input_value() == "Is anybody there?"
