# SPDX-License-Identifier: Apache-2.0
"""The caption page and its JavaScript client, in a real Chromium, over lines that are cut."""

import asyncio
import contextlib
import json
import random
import shutil

import httpx
import pytest

from serving import Relay, in_thread, taken, taught
from test_client import FREE
from test_serving import TEXT, TOKEN, alone
from transformers_simul import PlainSimulClient
from transformers_simul.serving.client.kept import Kept
from transformers_simul.serving.messages import EndSentence, SentenceEnd, SourcePiece, Start, WordMessage

# As root it needs the first; the others keep it from looking for hosts of its maker.
CHROMIUM = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
needs_chromium = pytest.mark.skipif(not shutil.which("chromium"), reason="needs Debian's chromium")


@pytest.fixture(scope="module")
def parts():
    return taught()


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        yield browser
        browser.close()


@contextlib.contextmanager
def relayed(server):
    """A line to the server; its `cut` may be called from here."""
    relay, loop = Relay(server), server.server._loop
    asyncio.run_coroutine_threadsafe(relay.__aenter__(), loop).result(60)
    cut = relay.cut
    relay.cut = lambda: loop.call_soon_threadsafe(cut)
    try:
        yield relay
    finally:
        relay.cut()
        loop.call_soon_threadsafe(relay._listens.close)


def opened(browser, url, errors):
    tab = browser.new_page(viewport={"width": 960, "height": 540})
    tab.set_default_timeout(60_000)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    # What the page's rules forbid is only said to the console; a lost connection is too.
    tab.on("console", lambda said: "Content Security" in said.text and errors.append(said.text))
    tab.goto(url)
    return tab


def lines(tab):
    return tab.locator("#captions div").all_inner_texts()


def expected(parts, text):
    """A line for each sentence that has words."""
    sentences = [sentence for sentence in text.replace(". ", ".|").split("|") if sentence]
    return [" ".join(word for word, _ in alone(parts, sentence, **FREE)) for sentence in sentences]


def test_the_page_asks_for_no_token_and_loads_nothing_from_elsewhere(parts):
    with in_thread({"one": parts}, tokens=[TOKEN]) as server, httpx.Client(base_url=server.url) as client:
        page = client.get("/captions")
        assert page.headers["content-type"].startswith("text/html")
        for name, kind in (
            ("captions.css", "text/css"),
            ("captions.js", "javascript"),
            ("simul-client.js", "javascript"),
        ):
            answer = client.get(f"/captions/{name}")
            assert kind in answer.headers["content-type"]
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert "http://" not in answer.text.replace("http://127", "")
            assert "https://" not in answer.text
        assert client.get("/captions/__init__.py").status_code == 404
        assert client.get("/captions/..%2fapp.py").status_code == 404


@pytest.mark.slow
@needs_chromium
def test_what_is_typed_is_captioned_over_a_line_that_is_cut(parts, browser):
    errors = []
    with in_thread({"one": parts}) as server, relayed(server) as relay:
        tab = opened(browser, f"{relay.url}/captions?policy=wait-1&lines=9", errors)
        # In the middle of words, of a sentence, and after its end.
        for place, piece in enumerate((TEXT[:20], TEXT[20:33], TEXT[33:70], TEXT[70:])):
            tab.locator("#source").press_sequentially(piece)
            tab.wait_for_function("count => document.querySelector('#captions').innerText.length > count", arg=place)
            relay.cut()
            tab.wait_for_function("count => simul.reconnects > count", arg=place)
        tab.locator("#source").press("Enter")
        tab.wait_for_function(
            "wanted => document.querySelector('#captions').innerText == wanted", arg="\n".join(expected(parts, TEXT))
        )
        assert lines(tab) == expected(parts, TEXT)
        assert tab.evaluate("simul.reconnects") == 4
        assert tab.locator("#status").inner_text() == ""
        tab.close()
    assert not errors


@pytest.mark.slow
@needs_chromium
def test_an_address_asks_for_terms_and_for_punctuation(parts, browser):
    errors, sent = [], []
    with in_thread({"one": parts}, segmenters={"": lambda words, following: following == "two"}) as server:
        tab = browser.new_page()
        tab.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(
            f"{server.url}/captions?policy=wait-1&lines=9&punctuation=add&numbers=copy&term=big dog=Dogge&term=x&term=a=b=c"
        )
        tab.locator("#source").press_sequentially("a dog runs two children watch him")
        tab.locator("#source").press("Enter")
        wanted = expected(parts, "A dog runs. Two children watch him.")
        tab.wait_for_function(
            "wanted => document.querySelector('#captions').innerText == wanted", arg="\n".join(wanted)
        )
        terms = [{"source": "big dog", "target": "Dogge"}, {"source": "a", "target": "b=c"}]
        start = json.loads(sent[0])
        assert (start["glossary"], start["copy_numbers"]) == (terms, True)
        tab.close()
    assert not errors


@pytest.mark.slow
@needs_chromium
def test_a_room_over_a_picture(parts, browser):
    errors = []
    with in_thread({"one": parts}, tokens=[TOKEN]) as server, relayed(server) as relay:
        address = f"{relay.url}/captions?room=talk&background=transparent&size=30&colour=yellow#token={TOKEN}"
        tab = opened(browser, address, errors)
        with PlainSimulClient(server.url, token=TOKEN).open(policy="wait-1", room="talk") as stream:
            stream.put(TEXT[:60])
            tab.wait_for_selector("#captions div")
            relay.cut()
            stream.put(TEXT[60:])
            stream.end()
            assert len(list(stream)) > 5
        tab.wait_for_function("() => document.querySelector('#status').textContent == 'The end.'")
        assert lines(tab) == expected(parts, TEXT)
        seen = "getComputedStyle(document.documentElement).backgroundColor"
        assert tab.evaluate(seen) == "rgba(0, 0, 0, 0)"
        assert tab.evaluate("getComputedStyle(document.querySelector('#captions')).fontSize") == "30px"
        assert not tab.locator("#typing").is_visible()
        assert not tab.locator("#status").is_visible()
        tab.close()
        # Without the token: said, and no more.
        tab = opened(browser, f"{server.url}/captions", errors)
        tab.wait_for_function("() => document.querySelector('#status').textContent.startsWith('unauthorized: ')")
        tab.close()
    assert not errors


THROTTLED = """async (url) => {
  let socket;
  globalThis.WebSocket = class {
    static OPEN = 1;
    readyState = 1;
    constructor() { socket = this; }
    send() {}
    close() { this.onclose(); }
  };
  const timers = [];
  globalThis.setTimeout = (call) => timers.push(call);
  const { SimulStream } = await import(url);
  const stream = new SimulStream(location.href, {}, { onMessage() {} });
  const limits = { burst_words: 2, words_per_second: 0.001, waiting_words: 1000, idle_s: 1000 };
  const say = (message) => socket.onmessage({ data: JSON.stringify(message) });
  say({ type: "started", unit: "word", target_langs: ["de"], limits });
  for (let i = 0; i < 50; i++) {
    stream.put("one two three ");
    say({ type: "pong" });
  }
  const running = timers.length;
  let refused = "";
  stream.put("x".repeat(70000));
  const waiting = stream.waiting;
  try { stream.put("y"); } catch (error) { refused = error.name; }
  stream.close();
  return [running, waiting > 70000, refused];
}"""


CONTEXT = """async ([url, kept_sentences]) => {
  const { Kept } = await import(url), kept = new Kept();
  const limits = { burst_words: 1e6, message_bytes: 1e9 };
  kept.begin({ unit: "word", target_langs: ["de"], kept_sentences, limits });
  for (let sentences = 1; sentences <= 2; sentences++) {
    const target_words = 3000 * sentences, place = { target_lang: "de", sentences, source_words: sentences, target_words };
    kept.put("word. ");
    for (let index = target_words - 3000; index < target_words; index++) {
      kept.heard({ type: "word", target_lang: "de", index, text: "a", delay: sentences });
    }
    kept.heard({ type: "sentence_end", ...place });
  }
  return kept.resume().tracks[0].context?.words.length ?? null;
}"""


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize(("kept_sentences", "words"), [(2, 3000), (1, 3000), (0, None), (-1, None), ("x", None)])
def test_the_browser_sends_no_more_context_than_servers_take(parts, browser, kept_sentences, words):
    """As many words as a message may have, whatever the server says."""
    with in_thread({"one": parts}) as server:
        tab = opened(browser, f"{server.url}/captions?room=none", [])
        assert tab.evaluate(CONTEXT, [f"{server.url}/captions/simul-client.js", kept_sentences]) == words
        tab.close()


@pytest.mark.slow
@needs_chromium
def test_who_is_held_has_one_timer_and_a_bounded_outbox(parts, browser):
    with in_thread({"one": parts}) as server:
        tab = opened(browser, f"{server.url}/captions?room=none", [])
        assert tab.evaluate(THROTTLED, f"{server.url}/captions/simul-client.js") == [1, True, "RangeError"]
        tab.close()


HOSTILE = """() => {
  const show = (message) => simul.onMessage({ target_lang: '"><img src=x onerror=alert(1)>', ...message });
  show({ type: "room", unit: "token" });
  show({ type: "word", text: "<img src=x onerror=alert(1)>" });
  show({ type: "word", text: "&lt;<script>alert(1)</script>" });
  show({ type: "warning", message: "<b onclick=alert(1)>" });
  const text = document.querySelector("#captions").textContent;
  for (let i = 0; i < 3000; i++) show({ type: "word", text: "word" });
  return [text, document.querySelectorAll("img, b, script").length, document.querySelector("#captions").textContent.length];
}"""


@pytest.mark.slow
@needs_chromium
def test_words_are_text_and_a_sentence_that_never_ends_is_bounded(parts, browser):
    with in_thread({"one": parts}) as server:
        tab = opened(browser, f"{server.url}/captions?room=none", [])
        text, elements, size = tab.evaluate(HOSTILE)
        # Tokens bring their own spaces.
        assert text == "<img src=x onerror=alert(1)>&lt;<script>alert(1)</script>"
        # The page's own script.
        assert elements == 1
        assert size == 4000
        tab.close()


BABEL = """() => {
  const say = (target_lang, text) => simul.onMessage({ type: text ? "word" : "sentence_end", target_lang, text });
  say("de");
  say("de", "Ein");
  say("fr", "Un");
  say("fr", "chien");
  say("fr");
  say("de", "Hund");
  return [document.querySelector("#captions").innerText, document.querySelector("#status").textContent];
}"""


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("wanted", ["", "fr"])
def test_no_line_has_words_of_two_languages(parts, browser, wanted):
    """A room of several shows the first that speaks, or the one that the address names."""
    with in_thread({"one": parts}) as server:
        tab = opened(browser, f"{server.url}/captions?room=none" + (f"&lang={wanted}" if wanted else ""), [])
        text, status = tab.evaluate(BABEL)
        assert text == ("Un chien" if wanted else "Ein Hund")
        assert status == f"There is {'de' if wanted else 'fr'} too: lang= in the address chooses."
        tab.close()


REPLAY = """async ([url, started, steps]) => {
  const { Kept } = await import(url), kept = new Kept();
  kept.begin(started);
  for (const [what, value] of steps) {
    if (what === "put") kept.put(value);
    else if (what === "end_sentence") kept.endSentence();
    else kept.heard(value);
  }
  // It leaves out what is too much.
  const resume = kept.resume();
  return [kept.again(), resume, kept.sourceWords, kept.wordsAhead];
}"""


@pytest.mark.slow
@needs_chromium
def test_the_browser_keeps_what_the_python_client_keeps(parts, browser):
    draw = random.Random(0)
    with in_thread({"one": parts}) as server:
        tab = opened(browser, f"{server.url}/captions", [])
        for _ in range(150):
            unit = draw.choice(["word", "char", "token"])
            kept, steps, words, sentences = Kept(Start()), [], 0, 0
            started = taken(unit, kept_sentences=draw.randint(0, 3), burst_words=draw.choice([6, 2000]))
            kept.begin(started)
            for _ in range(draw.randint(1, 12)):
                text = "".join(draw.choice("ab .\n\u00a0\u3000😀") for _ in range(draw.randint(1, 6)))
                steps.append(("put", text))
                kept.put(text)
                if draw.random() < 0.2:
                    steps.append(("end_sentence", None))
                    kept.end_sentence()
                if draw.random() < 0.3:
                    word = WordMessage(
                        target_lang="de", index=words, text="x", delay=kept.source_words, elapsed_ms=0, ids=[3]
                    )
                    words += kept.heard(word)
                    steps.append(("heard", word.model_dump()))
                if draw.random() < 0.2:
                    sentences += 1
                    end = SentenceEnd(
                        target_lang="de", sentences=sentences, source_words=kept.source_words, target_words=words,
                        reason=draw.choice(["eos", "eos", "max_new_tokens"]),
                    )  # fmt: skip
                    kept.heard(end)
                    steps.append(("heard", end.model_dump()))
            again, resume, source_words, ahead = tab.evaluate(
                REPLAY, ["./captions/simul-client.js", started.model_dump(), steps]
            )
            assert resume == kept.start().resume.model_dump(exclude_none=True)
            assert (source_words, ahead) == (kept.source_words, kept.words_ahead)
            # Cut into other pieces, the same units and ends follow.
            other, mine = Kept(Start()), Kept(Start())
            for each in (other, mine):
                each.begin(started)
            for piece in again:
                other.add(EndSentence() if piece is None else SourcePiece(text=piece))
            for message in kept.again():
                mine.add(message)
            for each in (other, mine):
                each.put("b")
                each.end()
            assert list(other.again()) == list(mine.again())
        tab.close()
