# SPDX-License-Identifier: Apache-2.0
"""The live page: what visitors see, several at once, leaving at any moment; and in a real browser if one is there."""

import asyncio
import json
import shutil
import socket
import time
import urllib.error
import urllib.request
from contextlib import aclosing

import pytest

from helpers import make_model, make_processor
from serving import taught
from transformers_simul import StreamEngine, WaitKPolicy
from transformers_simul.cli import loading, main
from transformers_simul.live_page import build_page
from transformers_simul.live_page import visitors as visitors_module
from transformers_simul.live_page.board import Panel, boards
from transformers_simul.live_page.examples import examples_of
from transformers_simul.live_page.guard import MAX_BODY_BYTES, Guard
from transformers_simul.live_page.translation import LiveTranslation
from transformers_simul.live_page.visitors import MAX_CHARACTERS, Visitors
from transformers_simul.serving.metrics import Metrics
from transformers_simul.serving.models import Served
from transformers_simul.serving.track import Track

TEXT = "a dog runs over the green meadow while two children watch him"


@pytest.fixture(scope="module")
def parts():
    processor = make_processor()
    return make_model(processor), processor


@pytest.fixture
def engine(parts):
    with StreamEngine(*parts, max_streams=4) as engine:
        yield engine


def run(main):
    """The page lives in one event loop; five minutes are far more than any of this takes, on a busy machine too."""
    return asyncio.run(asyncio.wait_for(main, 300))


async def everything(shown):
    return [each async for each in shown]


async def first(shown):
    """As Gradio does when a client is gone, without closing what it drops."""
    return await anext(shown)


async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)


def test_play_shows_growing_boards_and_frees_its_places(engine):
    async def main():
        shown = [drawn for _, drawn in await everything(Visitors(engine).play("one", TEXT, 20, "wait-1", "wait-3"))]
        assert len(shown) > 3
        assert shown[-1].count('scope="col"') == 2 * len(TEXT.split())
        assert [name for name in ("wait-1", "wait-3", "wait-5") if f"<h3>{name}</h3>" in shown[-1]] == [
            "wait-1",
            "wait-3",
        ]
        assert shown[-1].count("the translation has ended") == 2
        await until(lambda: not engine.active_streams)

    run(main())


def test_one_visitor_leaves_and_the_other_does_not_notice(engine):
    async def main():
        visitors = Visitors(engine)
        other = asyncio.create_task(everything(visitors.play("two", TEXT, 20, "wait-3", "nothing")))
        async with aclosing(visitors.play("one", TEXT, 2, "wait-1", "wait-3")) as leaving:
            await first(leaving)
        seen = await other
        assert "simul-error" not in seen[-1][1] or "nothing was written" in seen[-1][1]
        await until(lambda: not engine.active_streams)

    run(main())


def test_typing_feeds_whole_words_and_enter_ends(engine):
    async def main():
        visitors = Visitors(engine)
        for count in range(1, len(TEXT) + 1):
            await first(visitors.type("one", TEXT[:count], "wait-1", "nothing")) if count > 2 else None
        (panel,) = visitors.turns["one"].panels
        # The last word may still grow.
        assert panel.source == TEXT.split()[:-1]
        state, drawn = (await everything(visitors.type("one", TEXT, "wait-1", "nothing", is_complete=True)))[-1]
        assert panel.source == TEXT.split()
        assert "The source has ended" in state
        assert "the translation has ended" in drawn
        # The key press itself comes after what it leads to.
        assert not await everything(visitors.type("one", TEXT, "wait-1", "nothing"))
        await until(lambda: not engine.active_streams)

    run(main())


def test_a_changed_beginning_and_another_policy_start_anew(engine):
    async def main():
        visitors = Visitors(engine)
        begun = []
        for text, policy in (("a dog ", "wait-7"), ("two dogs ", "wait-7"), ("two dogs run ", "wait-5")):
            await first(visitors.type("one", text, policy, "nothing"))
            (panel,) = visitors.turns["one"].panels
            begun.append(panel)
            assert panel.source == text.split()
        assert len(set(map(id, begun))) == 3
        visitors.stop("one")
        await until(lambda: not engine.active_streams)
        # A panel hears of its stream's end a moment later.
        await until(lambda: all(panel.is_done for panel in begun))

    run(main())


def test_deleting_takes_nothing_back_and_clearing_clears(engine):
    async def main():
        visitors = Visitors(engine)
        await first(visitors.type("one", "a dog runs ", "wait-7", "nothing"))
        (panel,) = visitors.turns["one"].panels
        # Also what an older key press looks like that comes late.
        await first(visitors.type("one", "a dog r", "wait-7", "nothing"))
        assert visitors.turns["one"].panels == [panel]
        ((state, drawn),) = await everything(visitors.type("one", "", "wait-7", "nothing"))
        assert "Choose an example" in state
        assert "runs" not in drawn
        await until(lambda: not engine.active_streams)

    run(main())


def test_pasted_text_starts_nothing_and_says_what_to_do(engine):
    async def main():
        visitors = Visitors(engine)
        ((state, _),) = await everything(visitors.type("one", f"{TEXT} ", "wait-1", "nothing"))
        assert "12 words: Play reads them one by one, Enter translates them at once." in state
        assert not engine.active_streams
        drawn = (await everything(visitors.type("one", TEXT, "wait-1", "nothing", is_complete=True)))[-1][1]
        assert "12 source words" in drawn

    run(main())


def test_all_sentences_are_translated(parts):
    _, processor = parts
    model = make_model(processor)

    def never_ends(module, args, output):
        output.logits[..., processor.eos_token_id] = -1e4

    model.register_forward_hook(never_ends)

    async def main(engine):
        visitors = Visitors(engine)
        text = "a dog runs . two children watch him ."
        await everything(visitors.type("one", text, "full source", "nothing", is_complete=True))
        (panel,) = visitors.turns["one"].panels
        # Written with all of the first sentence read, and with all of the second.
        assert {word.delay for word in panel.target} == {4, 9}

    with StreamEngine(model, processor, max_streams=1) as engine:
        run(main(engine))


def test_stop_and_a_second_play_end_the_first(engine):
    async def main():
        visitors = Visitors(engine)

        async def begin_anew():
            await first(visitors.play("one", TEXT, 20, "wait-1", "nothing"))

        async def stop():
            visitors.stop("one")

        for end in (stop, begin_anew):
            playing = visitors.play("one", TEXT, 0.5, "wait-3", "wait-5")
            await first(playing)
            old = visitors.turns["one"]
            await end()
            # Far from all of the words that were left.
            assert await everything(playing) == [(None, None)]
            assert old.is_over
            assert len(old.words) < 3
        visitors.stop("one")
        await until(lambda: not engine.active_streams)

    run(main())


def test_overlapping_events_of_one_visitor_leave_no_orphans(engine):
    async def main():
        visitors = Visitors(engine)
        events = [visitors.play("one", TEXT, 20, "wait-1", "wait-3") for _ in range(6)]
        events += [visitors.type("one", f"{word} ", "wait-1", "nothing") for word in ("a", "dog", "runs")]
        tasks = [asyncio.create_task(everything(event)) for event in events]
        await asyncio.sleep(0.2)
        visitors.stop("one")
        await asyncio.gather(*tasks)
        await until(lambda: not engine.active_streams)

    run(main())


def test_leaving_while_waiting_for_a_place_leaves_no_orphan(engine):
    async def main():
        visitors = Visitors(engine)
        running = [engine.open(WaitKPolicy(3)) for _ in range(4)]
        waiting = asyncio.create_task(everything(visitors.play("one", TEXT, 20, "wait-1", "wait-3")))
        await until(lambda: visitors.queue)
        visitors.stop("one")
        for stream in running:
            stream.source.cancel()
        (said, _), *rest = await waiting
        assert "waiting" in said
        assert rest == [(None, None)]
        await until(lambda: not engine.active_streams)

    run(main())


def test_events_that_come_after_their_visitor_has_left_begin_nothing(engine):
    async def main():
        visitors = Visitors(engine)
        visitors.leave("one")
        await everything(visitors.type("one", "a dog ", "wait-7", "nothing"))
        await everything(visitors.play("one", TEXT, 20, "wait-1", "wait-3"))
        assert not engine.active_streams
        visitors.arrive("one")
        await first(visitors.type("one", "a dog ", "wait-7", "nothing"))
        assert engine.active_streams
        visitors.leave("one")
        await until(lambda: not engine.active_streams)

    run(main())


def test_two_who_compare_do_not_wait_for_each_other(engine):
    async def main():
        visitors = Visitors(engine)
        running = [engine.open(WaitKPolicy(3)) for _ in range(4)]
        both = [
            asyncio.create_task(everything(visitors.play(name, TEXT, 20, "wait-1", "wait-3")))
            for name in ("one", "two")
        ]
        await until(lambda: len(visitors.queue) == 2)
        # One place each would be a deadlock.
        for stream in running[:2]:
            stream.source.cancel()
        for shown in await asyncio.gather(*both):
            assert "12 source words" in shown[-1][1]
        for stream in running[2:]:
            stream.source.cancel()

    run(main())


def test_full_and_too_many_waiting_are_said(engine, monkeypatch):
    monkeypatch.setattr(visitors_module, "WAIT_S", 0.3)

    async def main():
        visitors = Visitors(engine, max_waiting=1)
        running = [engine.open(WaitKPolicy(3)) for _ in range(3)]
        waits = asyncio.create_task(everything(visitors.play("one", TEXT, 5, "wait-1", "wait-3")))
        late = [asyncio.create_task(everything(visitors.play(f"{i}", TEXT, 5, "wait-1", "wait-3"))) for i in range(2)]
        for shown in await asyncio.gather(waits, *late):
            assert "All places are taken; try again" in shown[-1][0]
        # The last one never stood in the line.
        assert len(late[1].result()) == 1
        assert not visitors.queue
        for stream in running:
            stream.source.cancel()

    run(main())


def test_who_is_gone_keeps_nobody_out_of_the_line(engine, monkeypatch):
    monkeypatch.setattr(visitors_module, "WAIT_S", 0.2)

    async def main():
        visitors = Visitors(engine, max_waiting=0)
        running = [engine.open(WaitKPolicy(3)) for _ in range(4)]
        await first(visitors.type("gone", "a dog ", "wait-1", "nothing"))
        for stream in running:
            stream.source.cancel()
        await until(lambda: not engine.active_streams)
        await asyncio.sleep(0.3)
        shown = await everything(visitors.play("new", TEXT, 20, "wait-1", "nothing"))
        assert "12 source words" in shown[-1][1]

    run(main())


def test_idle_typing_gives_its_place_back(engine, monkeypatch):
    monkeypatch.setattr(visitors_module, "IDLE_S", 0.2)

    async def main():
        visitors = Visitors(engine)
        shown = await everything(visitors.type("one", "a dog ", "wait-7", "nothing"))
        assert "No word came for" in shown[-1][1]
        # A client that is gone without a word: nobody looks at what it has begun.
        await first(visitors.type("two", "a dog ", "wait-7", "wait-5"))
        await until(lambda: not engine.active_streams)

    run(main())


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), None, "3", -1, 10**400], ids=str)
def test_no_rate_stops_the_clock(engine, rate):
    async def main():
        shown = await everything(Visitors(engine).play("one", "a dog", rate, "full source", "nothing"))
        assert "2 source words" in shown[-1][1]

    run(main())


@pytest.mark.parametrize("text", ["a \ud800dog runs", "\udfff", "a\x00 dog", "dog " * MAX_CHARACTERS])
def test_any_text_can_be_sent_back(engine, text):
    async def main():
        visitors = Visitors(engine)
        for shown in (
            visitors.type("one", text, "wait-1", "nothing"),
            visitors.type("one", text, "wait-1", "nothing", is_complete=True),
        ):
            async with aclosing(shown):
                async for state, drawn in shown:
                    json.dumps([state, drawn], ensure_ascii=False).encode()
                    if "Reading" in state:
                        break

    run(main())


def test_nothing_to_play_says_so(engine):
    ((state, _),) = run(everything(Visitors(engine).play("one", " \n", 5, "wait-1", "nothing")))
    assert "Type or paste" in state


def begun(engine, policy="wait-1"):
    return LiveTranslation(Served("page", engine, "en", "de"), policy, Metrics())


def test_a_stream_that_ends_while_it_is_fed_takes_no_more(engine):
    async def main():
        live = begun(engine)
        live.feed(["a"])
        live.cancel()
        live.feed(["a", "dog"])
        await live.join()
        live.feed(["a", "dog"])
        assert live.source == ["a"]
        assert not live.error

    run(main())


@pytest.mark.parametrize("is_bare", [False, True])
def test_source_without_punctuation_gets_it_where_the_visitor_says_so(engine, monkeypatch, is_bare):
    words: list[str] = []
    stream_opened = engine.open

    def open_stream(policy, source, **options):
        polled = source.poll

        def poll():
            found = polled()
            if found[1] is not None:
                words.append(found[1])
            return found

        source.poll = poll
        return stream_opened(policy, source, max_new_tokens=5, **options)

    monkeypatch.setattr(engine, "open", open_stream)

    async def main():
        visitors = Visitors(engine, ends_between=lambda before, following: following == "we")
        await everything(visitors.play("one", "a dog runs we sleep", 20, "wait-1", "nothing", None, None, is_bare))

    run(main())
    assert words[:3] == (["A", "dog", "runs."] if is_bare else ["a", "dog", "runs"])


def test_a_sentence_without_room_ends_its_translation_and_the_page_says_so(parts):
    async def main(engine):
        shown = await everything(Visitors(engine).play("one", " ".join(["dog"] * 40), 20, "full source", "nothing"))
        assert "A sentence was too long for this page" in shown[-1][1]

    with StreamEngine(*parts, max_streams=1, max_tokens=32) as engine:
        run(main(engine))


def test_an_error_inside_is_logged_and_not_shown(parts, caplog):
    _, processor = parts
    model = make_model(processor)

    def breaks(module, args, output):
        raise RuntimeError("the secret of the house")

    model.register_forward_hook(breaks)

    async def main(engine):
        live = begun(engine)
        live.feed(["a", "dog"])
        live.end()
        await live.join()
        assert "ended with an error inside the server" in live.error
        assert "secret" not in live.error
        assert "the secret of the house" in caplog.text

    with StreamEngine(model, processor, max_streams=1) as engine:
        run(main(engine))


@pytest.mark.parametrize("event", ["play", "type"])
def test_what_a_segmenter_raises_is_told_and_holds_no_place(engine, event):
    def breaks(words, following):
        raise KeyError("the secret of the house")

    async def main():
        visitors = Visitors(engine, ends_between=breaks)
        if event == "play":
            shown = visitors.play("one", "a dog", 20, "wait-1", "nothing", None, None, True)
        else:
            shown = visitors.type("one", "a dog", "wait-1", "nothing", None, True, None, True)
        _, drawn = (await everything(shown))[-1]
        assert "ended with an error inside the server" in drawn
        assert "secret" not in drawn
        await until(lambda: not engine.active_streams)

    run(main())


def test_an_event_that_fails_holds_no_place_and_keeps_nobody_out(engine):
    async def main():
        visitors, began = Visitors(engine), time.monotonic()
        with pytest.raises(KeyError):
            await everything(visitors.type("one", "a dog", "wait-1", "no policy", None, True))
        await until(lambda: not engine.active_streams)
        await first(visitors.type("two", "a dog", "wait-1", "nothing", None, True))
        assert time.monotonic() - began < visitors_module.WAIT_S / 2

    run(main())


def test_an_engine_that_has_stopped_is_told_of(parts):
    with StreamEngine(*parts, max_streams=1) as engine:
        visitors = Visitors(engine)

    async def main():
        shown = await everything(visitors.type("one", "a dog", "wait-1", "nothing", None, True))
        assert "There is no translation: The engine of this model has stopped." in shown[-1][0]

    run(main())


def test_a_message_that_cannot_be_told_ends_the_translation(engine, monkeypatch):
    def breaks(track, event):
        raise KeyError("the secret of the house")

    monkeypatch.setattr(Track, "messages", breaks)

    async def main():
        live = begun(engine)
        live.feed(["a", "dog"])
        live.end()
        await live.join()
        assert "ended with an error inside the server" in live.error
        await until(lambda: not engine.active_streams)

    run(main())


def test_computing_begins_once_a_word_is_certain():
    async def main(engine):
        served = Served("page", engine, "en", "de")
        live = LiveTranslation(served, "full", Metrics(), ends_between=lambda words, following: False)
        live.feed(["dog"])
        await asyncio.sleep(0.5)
        began = time.monotonic()
        live.end()
        await live.join()
        assert 0 < sum(live.computing_ms) <= 1000 * (time.monotonic() - began)

    with StreamEngine(*taught(), max_streams=1) as engine:
        run(main(engine))


def lagging(engine, source, delays, ends=()):
    async def main():
        live = begun(engine)
        live.cancel()
        await live.join()
        return live

    live = run(main())
    live.source = source.split()
    live.sentence_ends = [*ends]
    live.target = [type("Written", (), {"delay": delay})() for delay in delays]
    return live


def test_figures_are_defined_or_not_shown(engine):
    # Two sentences of four and three words under wait-1: LAAL 1 each.
    live = lagging(engine, "a b c dog. e f green.", [1, 2, 3, 4, 5, 6, 7], [4, 7])
    assert live.lagging_words() == 1
    assert live.untranslated_words() == 0
    # Stopped short: far below 0 by the formula.
    live = lagging(engine, " ".join(["a"] * 50), [1, 2, 3])
    assert live.lagging_words() is None
    assert live.untranslated_words() == 47
    # A whole sentence without a word.
    assert lagging(engine, "a dog. the meadow.", [1, 2], [2, 4]).untranslated_words() == 2
    html = boards([Panel("wait-1", ["a"] * 50, ["b"] * 3, [1, 2, 3], is_done=True, untranslated_words=47)])
    assert "For 47 source words nothing was written." in html
    assert "LAAL" not in html


def test_text_is_escaped():
    html = boards([Panel("<b>", ["<script>"], ["<img>", "&"], [1, 1], error="<i>")])
    assert not any(tag in html for tag in ("<script>", "<img>", "<b>", "<i>"))


def test_a_long_board_shows_the_newest_and_folds_the_rest():
    source, target = [f"s{i}" for i in range(300)], [f"t{i}" for i in range(280)]
    html = boards([Panel("wait-3", source, target, [min(i + 3, 300) for i in range(280)])])
    assert "<summary>220 earlier words</summary>" in html
    assert html.count('scope="row"') == html.count('scope="col"') == 20
    assert ">t279</th>" in html
    assert ">s281</th>" in html
    assert len(html) < 20_000


def test_examples_are_in_the_source_language():
    assert "Hund" in examples_of("de-DE")[0]
    assert all(len(text) < MAX_CHARACTERS for text in examples_of("English"))


def test_a_page_of_characters_says_so(parts):
    model, _ = parts
    with pytest.raises(ValueError, match="unit must be 'word', got 'char'"):
        build_page(model, make_processor(unit="char"))


def test_a_policy_that_drafts_too_much_is_refused_before_the_model_is_loaded(parts, tmp_path, monkeypatch, capsys):
    for part in parts:
        part.save_pretrained(tmp_path)
    monkeypatch.setattr(loading, "load", None)
    assert main(["demo", str(tmp_path), "--policy", "agree-30"]) == 1
    assert "This server drafts at most 16 words, got 'agree-30'" in capsys.readouterr().err


def test_policies_by_name_are_chosen_from_and_translate(parts, engine):
    page = build_page(*parts, max_streams=2, policies=["confidence:0.5,max=4", "agree-2"])
    visitors = page.visitors
    lists = {block.elem_id: block for block in page.blocks.values() if block.elem_id in ("left", "right")}
    assert [name for name, _ in lists["left"].choices][-2:] == ["confidence:0.5,max=4", "agree-2"]
    assert (lists["left"].value, lists["right"].value) == ("wait-3", "confidence:0.5,max=4")
    visitors.engine.close()
    visitors.engine = engine

    async def main():
        shown = await everything(visitors.play("one", TEXT, 20, "confidence:0.5,max=4", "agree-2"))
        assert "12 source words" in shown[-1][1]
        assert "confidence:0.5,max=4" in shown[-1][1]

    run(main())
    for name, message in (
        ("weit-3", "policy must be one of"),
        ("alignatt-2", "transformers-simul heads writes"),
        ("hold-20", "drafts at most 16 words"),
    ):
        with pytest.raises(ValueError, match=message):
            build_page(*parts, policies=[name])


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("127.0.0.1:7860", True),
        ("localhost", True),
        ("[::1]:80", True),
        ("10.0.0.7:7860", True),
        (socket.gethostname(), True),
        ("demo.example.org:443", True),
        ("evil.example.org:7860", False),
        ("127.0.0.1.evil.example.org", False),
        ("", False),
    ],
)
def test_only_own_host_names_are_answered(host, is_ours):
    assert Guard(None, ["demo.example.org"], print, print).is_ours(host) is is_ours


@pytest.fixture(scope="module")
def served(parts):
    page = build_page(*parts, max_streams=8, examples=[TEXT, "two children watch him ."])
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True)
    assert "127.0.0.1" in url
    yield page, url.rstrip("/")
    page.close()


def post(url, body, **headers):
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_server_takes_no_files_no_large_bodies_no_foreign_names(served):
    _, url = served
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="f"\r\n\r\nhello\r\n--x--\r\n'
    multipart = {"Content-Type": "multipart/form-data; boundary=x"}
    assert post(f"{url}/gradio_api/upload", part, **multipart) == 403
    large = json.dumps({"data": ["x" * MAX_BODY_BYTES], "fn_index": 0, "session_hash": "s"}).encode()
    assert post(f"{url}/gradio_api/queue/join", large, **{"Content-Type": "application/json"}) == 413
    assert post(f"{url}/gradio_api/queue/join", b"{}", Host="evil.example.org") == 421
    assert post(f"{url}/", None, Host="evil.example.org") == 421
    assert post(f"{url}/", None) == 200


def test_a_broken_heartbeat_gives_the_places_back(served):
    page, url = served
    visitors = page.visitors
    host, port = url.removeprefix("http://").split(":")

    async def main():
        with socket.create_connection((host, int(port)), timeout=60) as line:
            line.sendall(f"GET /gradio_api/heartbeat/gone HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            received = b""
            while b"ALIVE" not in received:
                received += line.recv(1000)
            await first(visitors.type("gone", "a dog ", "wait-7", "wait-5"))
            assert visitors.engine.active_streams == 2
        await until(lambda: not visitors.engine.active_streams)

    run(main())


# As root it needs the first; the others keep it from looking for hosts of its maker.
CHROMIUM = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        yield browser
        browser.close()


def gone_within(engine, seconds):
    end = time.monotonic() + seconds
    while engine.active_streams and time.monotonic() < end:
        time.sleep(0.05)
    return not engine.active_streams


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Debian's chromium")
def test_visitors_in_a_real_browser(served, browser):
    page, url = served
    errors = []

    def tab(**options):
        new = browser.new_page(**options)
        new.set_default_timeout(120_000)
        new.on("pageerror", lambda error: errors.append(str(error)))
        new.goto(url)
        new.wait_for_selector("#boards h3")
        return new

    # The first screen: what to do, a comparison, examples; one of them plays at a press.
    one = tab()
    assert "Choose an example" in one.locator("#status").inner_text()
    assert one.locator("#boards h3").all_inner_texts() == ["wait-3", "full source"]
    one.locator("#examples button", has_text="a dog runs").click()
    one.wait_for_function(
        "count => document.querySelectorAll('#boards thead th[scope=col]').length == count", arg=2 * len(TEXT.split())
    )
    assert one.locator("#source textarea").input_value() == TEXT
    # Clearing clears.
    one.locator("#clear").click()
    one.wait_for_function("!document.querySelector('#boards td')")
    assert one.locator("#source textarea").input_value() == ""
    # What is pasted waits for a next step, which is said; so is a stop.
    one.locator("#source textarea").focus()
    one.keyboard.insert_text(TEXT)
    one.wait_for_function("document.querySelector('#status').innerText.includes('12 words: Play reads them')")
    one.locator("#play").click()
    one.wait_for_selector("#boards td.write")
    one.locator("#stop").click()
    one.wait_for_function("document.querySelector('#status').innerText.includes('Stopped')")
    # Gradio repeats the last of what was running when that ends.
    one.wait_for_timeout(500)
    assert "Stopped" in one.locator("#status").inner_text()
    # Tabs that type, or play, and are closed in the middle.
    tabs = [tab() for _ in range(3)]
    for index, each in enumerate(tabs):
        each.locator("#source textarea").press_sequentially("a dog runs ", delay=30)
        if index % 2:
            each.locator("#play").click()
        each.wait_for_function("!document.querySelector('#boards').innerText.includes('appears here.\\nThe')")
        each.close()
    assert gone_within(page.visitors.engine, 50)
    # Typed, and ended by Enter; on a phone, with the output in sight.
    phone = tab(viewport={"width": 390, "height": 844})
    phone.locator("#source textarea").press_sequentially("a dog runs over", delay=30)
    phone.locator("#source textarea").press("Enter")
    phone.wait_for_function("document.querySelector('#status').innerText.includes('The source has ended, and')")
    assert phone.locator("#source textarea").input_value() == "a dog runs over"
    assert all(box.bounding_box()["y"] < 844 for box in phone.locator("#boards h3").all())
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not errors
