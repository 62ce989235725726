# SPDX-License-Identifier: Apache-2.0
"""The page itself, in Gradio: typed or played source, two policies side by side. Runs as a Space as it is."""

import importlib.util
from collections.abc import AsyncIterator, Sequence
from typing import Any

from ..streaming.engine import StreamEngine
from .board import STYLE, status
from .examples import examples_of
from .visitors import FIRST, MAX_CHARACTERS, NOTHING, POLICIES, RATE, RATES, Shown, Visitors, empty_boards

_LEFT, _RIGHT = "wait-3", "full source"
_PAGE_STYLE = """
/* Two lines high, though Enter does not make lines. */
#source textarea { min-height: 64px; }
#output .html-container { padding: 0; }
#output { gap: 8px; }
@media (max-width: 700px) {
  /* The output above the settings, and one screen for all that matters. */
  #top { display: contents; }
  #settings { order: 2; }
  #examples { order: 1; }
  #intro h1 { font-size: 20px; margin: 0; }
  #intro p { display: none; }
  .gradio-container main { padding-top: 12px !important; }
  footer { display: none !important; }
}
"""


def check_gradio() -> None:
    """Fail early where Gradio is missing.

    Raises:
        ValueError: if it is not installed.
    """
    if importlib.util.find_spec("gradio") is None:
        raise ValueError("the page needs gradio: pip install 'transformers_simul[page]'.")


def build_page(
    model: Any,
    processor: Any,
    max_streams: int = 8,
    examples: Sequence[str] | None = None,
    host_names: Sequence[str] = (),
) -> Any:
    """The page, ready for `launch()`. Its engine works until the process ends.

    Args:
        model: of any family, trained.
        processor (`SimulProcessor`): saved beside it.
        max_streams (`int`, *optional*): translations at once, two for a visitor who compares; more visitors wait.
        examples (`Sequence[str]`, *optional*): sources to play; sentences in the source language without.
        host_names (`Sequence[str]`, *optional*): names under which the page is reached, beside `localhost`, this
            machine's own and IP addresses; `"*"` for any.

    Raises:
        ValueError: without Gradio, for `max_streams` below 1, or if the processor's unit is not words.

    Returns:
        `gradio.Blocks`
    """
    check_gradio()
    if processor.unit != "word":
        raise ValueError(f"the page shows words: unit must be 'word', got {processor.unit!r}.")
    if max_streams < 1:
        raise ValueError(f"max_streams must be at least 1, got {max_streams}.")
    # Gradio is imported here only: it is an extra, and slow.
    from .blocks import LivePage

    engine = StreamEngine(model, processor, max_streams=max_streams)
    engine.start()
    visitors = Visitors(engine, max_waiting=max_streams)
    title = f"Simultaneous translation, {processor.source_lang}\u00a0→\u00a0{processor.target_lang}"
    samples = list(examples_of(processor.source_lang) if examples is None else examples)
    with LivePage(visitors, host_names, title=title, analytics_enabled=False) as page:
        _fill(page, visitors, title, samples, compares=max_streams > 1)
    page.queue(max_size=100, api_open=False)
    return page


def _fill(page: Any, visitors: Visitors, title: str, samples: list[str], compares: bool) -> None:
    """Fields, buttons and boards, and what each does."""
    import gradio

    right_policy = _RIGHT if compares else NOTHING
    gradio.HTML(f"<style>{STYLE}{_PAGE_STYLE}</style>", padding=False)
    gradio.Markdown(
        f"# {title}\nThe translation is written **while the source arrives** and is never revised.", elem_id="intro"
    )
    with gradio.Row(elem_id="top"):
        with gradio.Column(scale=3, min_width=300, elem_id="input"):
            source = gradio.Textbox(
                label="Source",
                placeholder="Type here, or paste a text and press Play. Enter ends the source.",
                # Of several lines, Enter would only make one more.
                lines=1,
                max_lines=6,
                max_length=MAX_CHARACTERS,
                elem_id="source",
            )
            with gradio.Row():
                play = gradio.Button("Play", variant="primary", min_width=80, elem_id="play")
                stop = gradio.Button("Stop", min_width=80, elem_id="stop")
                clear = gradio.Button("Clear", min_width=80, elem_id="clear")
        with gradio.Column(scale=2, min_width=300, elem_id="settings"):
            with gradio.Row():
                names = list(POLICIES)
                left = gradio.Dropdown(names, value=_LEFT, label="Policy", elem_id="left")
                others = [*names, NOTHING] if compares else [NOTHING]
                right = gradio.Dropdown(
                    others, value=right_policy, label="Compare with", min_width=120, elem_id="right"
                )
            rate = gradio.Slider(*RATES, value=RATE, step=0.5, label="Words per second (Play)", elem_id="rate")
    outputs = []
    with gradio.Column(elem_id="output"):
        outputs.append(gradio.HTML(status(FIRST), elem_id="status", padding=False))
        outputs.append(gradio.HTML(empty_boards(_LEFT, right_policy), elem_id="boards", padding=False))

    async def sent(events: AsyncIterator[Shown]):
        async for state, drawn in events:
            yield gradio.skip() if state is None else state, gradio.skip() if drawn is None else drawn

    # Gradio passes the request by its annotation. What comes new takes the place of what runs.
    async def on_play(text: str, rate: float, left: str, right: str, request: gradio.Request):
        async for shown in sent(visitors.play(str(request.session_hash), text, rate, left, right)):
            yield shown

    async def on_type(text: str, left: str, right: str, request: gradio.Request):
        async for shown in sent(visitors.type(str(request.session_hash), text, left, right)):
            yield shown

    async def on_enter(text: str, left: str, right: str, request: gradio.Request):
        async for shown in sent(visitors.type(str(request.session_hash), text, left, right, is_complete=True)):
            yield shown

    async def on_stop(request: gradio.Request):
        visitors.stop(str(request.session_hash))
        return status("Stopped.")

    async def on_clear(left: str, right: str, request: gradio.Request):
        visitors.stop(str(request.session_hash))
        return "", status(FIRST), empty_boards(left, right)

    live: dict[str, Any] = {"outputs": outputs, "show_progress": "hidden", "concurrency_limit": None}
    live |= {"trigger_mode": "multiple", "api_visibility": "private"}
    at_once: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    play.click(on_play, [source, rate, left, right], **live)
    # Not `input`, which comes with keys alone: text is also pasted, dictated, or deleted.
    source.change(on_type, [source, left, right], **live)
    source.submit(on_enter, [source, left, right], **live)
    stop.click(on_stop, None, outputs[0], **at_once)
    clear.click(on_clear, [left, right], [source, *outputs], **at_once)
    if samples:
        with gradio.Column(elem_id="examples"):
            chosen = gradio.Dataset(
                components=["textbox"], samples=[[text] for text in samples], label="Examples: press one to play it"
            )
        filled = chosen.click(lambda sample: sample[0], chosen, source, **at_once)
        filled.then(on_play, [source, rate, left, right], **live)
    # It does nothing; but without it, Gradio's pages keep no connection whose end says that they are left.
    page.unload(lambda: None)


__all__ = ["build_page", "check_gradio"]
