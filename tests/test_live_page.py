# SPDX-License-Identifier: Apache-2.0
"""The live page: what visitors see, several at once, one leaving in the middle; and in a real browser if one is there."""

import itertools
import shutil
import threading
import time

import pytest

from helpers import make_model, make_processor
from transformers_simul import StreamEngine, WaitKPolicy
from transformers_simul.live_page import build_page
from transformers_simul.live_page.board import board
from transformers_simul.live_page.page import MAX_CHARACTERS, Visitors

TEXT = "a dog runs over the green meadow while two children watch him"


@pytest.fixture(scope="module")
def parts():
    processor = make_processor()
    return make_model(processor), processor


@pytest.fixture
def engine(parts):
    with StreamEngine(*parts, max_streams=4) as engine:
        yield engine


def places_come_free(engine):
    for _ in range(200):
        if not engine.active_streams:
            return True
        time.sleep(0.05)
    return False


def test_play_shows_growing_boards_and_frees_its_places(engine):
    visitors = Visitors(engine)
    shown = list(visitors.play("one", TEXT, 200, "wait-1", "wait-3"))
    assert len(shown) > 3
    read = [panels[0].count("rotate(-45)") for panels in shown]
    assert read == sorted(read)
    assert read[-1] <= len(TEXT.split())
    for panels, name in zip(zip(*shown, strict=True), ("wait-1", "wait-3"), strict=True):
        assert f"<h3>{name}</h3>" in panels[-1]
        assert "LAAL" in panels[-1]
    assert places_come_free(engine)


def test_one_visitor_leaves_and_the_other_does_not_notice(engine):
    visitors, seen = Visitors(engine), []
    other = threading.Thread(target=lambda: seen.extend(visitors.play("two", TEXT, 100, "wait-3", "nothing")))
    leaving = visitors.play("one", TEXT, 2, "wait-1", "wait-3")
    next(leaving)
    other.start()
    # As Gradio does when the connection is gone.
    leaving.close()
    other.join(timeout=60)
    assert seen
    assert "simul-error" not in seen[-1][0]
    assert places_come_free(engine)


def test_typing_feeds_whole_words_and_a_line_end_ends(engine):
    visitors = Visitors(engine)
    for count in range(1, len(TEXT) + 1):
        # Only the first event of a key press is looked at: Gradio drops the rest when the next comes.
        list(itertools.islice(visitors.type("one", TEXT[:count], "wait-1", "nothing"), 1))
    (panel,) = visitors._live["one"]
    # The last word may still grow.
    assert panel.source == TEXT.split()[:-1]
    list(visitors.type("one", TEXT + "\n", "wait-1", "nothing"))
    panel.join()
    assert places_come_free(engine)


def test_a_changed_beginning_starts_anew(engine):
    visitors = Visitors(engine)
    next(visitors.type("one", "a dog ", "wait-7", "nothing"))
    (first,) = visitors._live["one"]
    next(visitors.type("one", "two dogs ", "wait-7", "nothing"))
    (second,) = visitors._live["one"]
    assert first is not second
    assert second.source == ["two", "dogs"]
    first.join()
    visitors.stop("one")
    assert places_come_free(engine)


def test_another_policy_starts_anew(engine):
    visitors = Visitors(engine)
    next(visitors.type("one", "a dog ", "wait-7", "nothing"))
    next(visitors.type("one", "a dog ", "wait-5", "wait-7"))
    assert [panel.title for panel in visitors._live["one"]] == ["wait-5", "wait-7"]
    visitors.stop("one")
    assert places_come_free(engine)


def test_stop_and_a_second_play_end_the_first(engine):
    visitors = Visitors(engine)
    for end in (visitors.stop, lambda visitor: next(visitors.play(visitor, TEXT, 20, "wait-1", "nothing"))):
        playing = visitors.play("one", TEXT, 0.5, "wait-3", "wait-5")
        next(playing)
        end("one")
        started = time.monotonic()
        assert not list(playing)
        # Not after the eleven words that were left.
        assert time.monotonic() - started < 1
    visitors.stop("one")
    assert places_come_free(engine)


def test_bounds(engine, monkeypatch):
    monkeypatch.setattr("transformers_simul.live_page.page.WAIT_S", 0.0)
    visitors = Visitors(engine)
    running = [engine.open(WaitKPolicy(3)) for _ in range(3)]
    assert "All places are taken" in next(visitors.play("one", TEXT, 5, "wait-1", "wait-3"))[0]
    for stream in running:
        stream.source.cancel()
    assert places_come_free(engine)
    assert "Type or paste" in next(visitors.play("one", " \n", 5, "wait-1", "nothing"))[0]
    # What is too long for the engine ends with a word about it, and what was written stands.
    long = list(visitors.play("one", "meadow " * MAX_CHARACTERS, 10_000, "wait-1", "nothing"))
    assert "simul-error" in long[-1][0]


def test_text_is_escaped():
    html = board("<b>", ["<script>"], ["<img>", "&"], [1, 1], error="<i>")
    assert not any(tag in html for tag in ("<script>", "<img>", "<b>", "<i>"))


def test_a_page_of_characters_says_so(parts):
    model, _ = parts
    with pytest.raises(ValueError, match="unit must be 'word', got 'char'"):
        build_page(model, make_processor(unit="char"))


# As root it needs the first; the others keep it from looking for hosts of its maker.
CHROMIUM = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Debian's chromium")
def test_two_visitors_in_a_real_browser(parts):
    sync_api = pytest.importorskip("playwright.sync_api")
    page = build_page(*parts, max_streams=4)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True)
    assert "127.0.0.1" in url
    errors = []
    try:
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
            pages = [browser.new_page() for _ in range(3)]
            for tab in pages:
                tab.on("pageerror", lambda error: errors.append(str(error)))
                tab.goto(url)
                tab.locator("#source textarea").fill(TEXT)
                tab.locator("#play").click()
            pages[0].wait_for_selector("#board-left .read")
            # One leaves in the middle.
            pages.pop(0).close()
            for tab in pages:
                tab.wait_for_function(
                    "count => document.querySelectorAll('#board-left svg text[transform]').length == count",
                    arg=len(TEXT.split()),
                )
            # And one types.
            typed = browser.new_page()
            typed.goto(url)
            typed.locator("#source textarea").press_sequentially("a dog runs over ", delay=30)
            typed.wait_for_selector("#board-left .read, #board-left text[transform]")
            browser.close()
    finally:
        page.close()
    assert not errors
