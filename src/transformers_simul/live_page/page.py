# SPDX-License-Identifier: Apache-2.0
"""The page itself, in Gradio: source typed or played, and two policies side by side. It runs as a Space as it is."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

from ..models.glossary import bound_glossary
from ..models.policy_names import named
from ..serving.punctuation import EndsBetween
from ..serving.track import check_policy
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


def build_page(
    model: Any,
    processor: Any,
    max_streams: int = 8,
    examples: Sequence[str] | None = None,
    host_names: Sequence[str] = (),
    policies: Sequence[str] = (),
    glossary: Any = None,
    ends_between: EndsBetween | None = None,
) -> Any:
    """Build the page, ready for `launch()`. Its engine works until the process ends.

    Args:
        model: of any family, trained.
        processor (`SimulProcessor`): saved beside it.
        max_streams (`int`, *optional*): translations at once, two for a visitor who compares; further visitors wait.
        examples (`Sequence[str]`, *optional*): sources to play; by default sentences in the source language.
        host_names (`Sequence[str]`, *optional*): names under which the page is reached, beside `localhost`, this
            machine's own name and IP addresses; `"*"` for any.
        policies (`Sequence[str]`, *optional*): further ones to choose from, by names that [`policy_from_name`] knows;
            the first is compared with wait-3 unless the visitor chooses.
        glossary (`Glossary` or `Mapping[str, str]`, *optional*): terms to prefer, whoever visits, beside the visitor's.
        ends_between (`Callable`, *optional*): such as a [`Segmenter`]; visitors can then have punctuation and capitals
            added to source that has none.

    Raises:
        ValueError: for `max_streams` below 1, if the processor's unit is not words, for a policy that
            is none or that the model cannot follow, or for a glossary that is none or cannot be written.

    Returns:
        `gradio.Blocks`
    """
    if processor.unit != "word":
        raise ValueError(f"the page shows words: unit must be 'word', got {processor.unit!r}.")
    if max_streams < 1:
        raise ValueError(f"max_streams must be at least 1, got {max_streams}.")
    for name in policies:
        check_policy(name)
        named(name, model)
    further = dict(zip(policies, policies, strict=True))
    bound_glossary(glossary, processor.prompt)
    # Gradio is imported here only: it is an extra, and slow.
    from .blocks import LivePage

    engine = StreamEngine(model, processor, max_streams=max_streams)
    engine.start()
    visitors = Visitors(
        engine, max_waiting=max_streams, policies=POLICIES | further, glossary=glossary, ends_between=ends_between
    )
    languages = sorted(processor.target_langs, key=lambda language: language != processor.target_lang)
    title = f"Simultaneous translation, {processor.source_lang}\u00a0→\u00a0{', '.join(languages)}"
    samples = list(examples_of(processor.source_lang) if examples is None else examples)
    right = next(iter(policies), _RIGHT) if max_streams > 1 else NOTHING
    with LivePage(visitors, host_names, title=title, analytics_enabled=False) as page:
        _fill(page, visitors, title, samples, languages, right)
    page.queue(max_size=100, api_open=False)
    return page


class _Fields(NamedTuple):
    """The page's components that events read or change; `outputs` are the state and the boards."""

    source: Any
    play: Any
    stop: Any
    clear: Any
    left: Any
    right: Any
    language: Any
    terms: Any
    is_bare: Any
    rate: Any
    outputs: list[Any]


def _fill(page: Any, visitors: Visitors, title: str, samples: list[str], languages: list[str], right: str) -> None:
    """Make the page, and connect what visitors do with what happens."""
    import gradio

    gradio.HTML(f"<style>{STYLE}{_PAGE_STYLE}</style>", padding=False)
    gradio.Markdown(
        f"# {title}\nThe translation is written **while the source arrives** and is never revised.", elem_id="intro"
    )
    fields = _fields(list(visitors.policies), right, languages, visitors.ends_between is not None)
    at_once: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    live = at_once | {"queue": True, "concurrency_limit": None, "trigger_mode": "multiple"}
    _listen(visitors, fields, live, at_once)
    if samples:
        with gradio.Column(elem_id="examples"):
            chosen = gradio.Dataset(
                components=["textbox"], samples=[[text] for text in samples], label="Examples: press one to play it"
            )
        filled = chosen.click(lambda sample: sample[0], chosen, fields.source, **at_once)
        policies = [fields.left, fields.right]
        settings = [fields.source, fields.rate, *policies, fields.language, fields.terms, fields.is_bare]
        filled.then(_player(visitors), settings, fields.outputs, **live)
    # It does nothing; but without it, Gradio's pages keep no connection whose end says that they are left.
    page.unload(lambda: None)


def _fields(names: list[str], right_policy: str, languages: list[str], adds_punctuation: bool) -> _Fields:
    """Lay the page out from top to bottom, without the examples."""
    import gradio

    with gradio.Row(elem_id="top"):
        with gradio.Column(scale=3, min_width=300, elem_id="input"):
            source = gradio.Textbox(
                label="Source",
                placeholder="Type here, or paste a text and press Play. Enter ends the source.",
                # With several lines, Enter would only make one more.
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
                left = gradio.Dropdown(names, value=_LEFT, label="Policy", elem_id="left")
                others = [NOTHING] if right_policy == NOTHING else [*names, NOTHING]
                right = gradio.Dropdown(
                    others, value=right_policy, label="Compare with", min_width=120, elem_id="right"
                )
            language = gradio.Dropdown(
                languages, value=languages[0], label="Target", visible=len(languages) > 1, elem_id="language"
            )
            terms = gradio.Textbox(
                label="Terms to prefer",
                placeholder="dog = Dackel",
                lines=2,
                max_lines=4,
                max_length=MAX_CHARACTERS,
                elem_id="terms",
            )
            is_bare = gradio.Checkbox(
                label="The source has no punctuation: add it", visible=adds_punctuation, elem_id="bare"
            )
            rate = gradio.Slider(*RATES, value=RATE, step=0.5, label="Words per second (Play)", elem_id="rate")
    with gradio.Column(elem_id="output"):
        state = gradio.HTML(status(FIRST), elem_id="status", padding=False)
        boards = gradio.HTML(empty_boards(_LEFT, right_policy), elem_id="boards", padding=False)
    return _Fields(source, play, stop, clear, left, right, language, terms, is_bare, rate, [state, boards])


async def _sent(events: AsyncIterator[Shown]) -> AsyncIterator[tuple[Any, Any]]:
    import gradio

    async for state, drawn in events:
        yield gradio.skip() if state is None else state, gradio.skip() if drawn is None else drawn


def _player(visitors: Visitors) -> Callable[..., AsyncIterator[tuple[Any, Any]]]:
    import gradio

    # Gradio passes the request by its annotation. What comes new takes the place of what runs.
    async def on_play(
        text: str,
        rate: float,
        left: str,
        right: str,
        language: str,
        terms: str,
        is_bare: bool,
        request: gradio.Request,
    ):
        played = visitors.play(str(request.session_hash), text, rate, left, right, language, terms, is_bare)
        async for shown in _sent(played):
            yield shown

    return on_play


def _listen(visitors: Visitors, fields: _Fields, live: dict[str, Any], at_once: dict[str, Any]) -> None:
    """Connect keys and buttons; `live` and `at_once` are options of events that last and of those that do not."""
    import gradio

    async def on_type(
        text: str, left: str, right: str, language: str, terms: str, is_bare: bool, request: gradio.Request
    ):
        typed = visitors.type(str(request.session_hash), text, left, right, language, False, terms, is_bare)
        async for shown in _sent(typed):
            yield shown

    async def on_enter(
        text: str, left: str, right: str, language: str, terms: str, is_bare: bool, request: gradio.Request
    ):
        typed = visitors.type(str(request.session_hash), text, left, right, language, True, terms, is_bare)
        async for shown in _sent(typed):
            yield shown

    async def on_stop(request: gradio.Request):
        visitors.stop(str(request.session_hash))
        return status("Stopped.")

    async def on_clear(left: str, right: str, request: gradio.Request):
        visitors.stop(str(request.session_hash))
        return "", status(FIRST), empty_boards(left, right)

    source, policies, outputs = fields.source, [fields.left, fields.right], fields.outputs
    ways = [*policies, fields.language, fields.terms, fields.is_bare]
    fields.play.click(_player(visitors), [source, fields.rate, *ways], outputs, **live)
    # Not `input`, which comes with keys alone: text is also pasted, dictated, or deleted.
    source.change(on_type, [source, *ways], outputs, **live)
    source.submit(on_enter, [source, *ways], outputs, **live)
    fields.stop.click(on_stop, None, outputs[0], **at_once)
    fields.clear.click(on_clear, policies, [source, *outputs], **at_once)


__all__ = ["build_page"]
