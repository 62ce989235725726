# SPDX-License-Identifier: Apache-2.0
"""The page itself, in Gradio: typed or played source, two policies side by side. Runs as a Space as it is."""

import importlib.util
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ..models.policies import OfflinePolicy, Policy, WaitKPolicy
from ..models.text import split_words
from ..streaming.engine import EngineFull, StreamEngine
from .board import STYLE, board
from .translation import LiveTranslation

MAX_CHARACTERS = 2000
# How long a visitor waits for a place.
WAIT_S = 10.0
# Words per second, slowest and fastest.
RATES = (0.5, 20.0)
_POLICIES: dict[str, Policy] = {f"wait-{k}": WaitKPolicy(k) for k in (1, 2, 3, 5, 7)} | {"full source": OfflinePolicy()}
_NONE = "nothing"
_FULL = "All places are taken; try again in a moment."


def check_gradio() -> None:
    """Fail early where Gradio is missing.

    Raises:
        ValueError: if it is not installed.
    """
    if importlib.util.find_spec("gradio") is None:
        raise ValueError("the page needs gradio: pip install 'transformers_simul[page]'.")


def build_page(model: Any, processor: Any, max_streams: int = 8, examples: Sequence[str] = ()) -> Any:
    """The page, ready for `launch()`. Its engine works until the process ends.

    Args:
        model: of any family, trained.
        processor (`SimulProcessor`): saved beside it.
        max_streams (`int`, *optional*): translations at once, two for a visitor who compares; more visitors wait.
        examples (`Sequence[str]`, *optional*): sources to begin with.

    Raises:
        ValueError: without Gradio, or if the processor's unit is not words.

    Returns:
        `gradio.Blocks`
    """
    check_gradio()
    import gradio

    if processor.unit != "word":
        raise ValueError(f"the page shows words: unit must be 'word', got {processor.unit!r}.")
    engine = StreamEngine(model, processor, max_streams=max_streams)
    engine.start()
    visitors = Visitors(engine)
    languages = f"{processor.source_lang} → {processor.target_lang}"

    with gradio.Blocks(title=f"Simultaneous translation, {languages}", analytics_enabled=False) as page:
        gradio.HTML(f"<style>{STYLE}</style>")
        gradio.Markdown(
            f"# Simultaneous translation, {languages}\nThe translation is written **while the source arrives** and is "
            "never revised. Orange: the source word that was read last when the word of that row was written."
        )
        with gradio.Row():
            with gradio.Column(scale=3):
                source = gradio.Textbox(
                    label="Source: type here and watch, or paste and play",
                    lines=3,
                    max_length=MAX_CHARACTERS,
                    value=examples[0] if examples else "",
                    elem_id="source",
                )
            with gradio.Column(scale=2):
                with gradio.Row():
                    left = gradio.Dropdown(list(_POLICIES), value="wait-3", label="Policy", elem_id="left")
                    right = gradio.Dropdown([*_POLICIES, _NONE], value=_NONE, label="Compare with", elem_id="right")
                rate = gradio.Slider(*RATES, value=3, step=0.5, label="Words per second", elem_id="rate")
        with gradio.Row():
            play = gradio.Button("Play", variant="primary", elem_id="play")
            stop = gradio.Button("Stop", elem_id="stop")
        with gradio.Row():
            boards = []
            for side in ("left", "right"):
                # Below each other where the window is narrow.
                with gradio.Column(min_width=360):
                    boards.append(gradio.HTML(elem_id=f"board-{side}", padding=False))
        if examples:
            gradio.Examples([[text] for text in examples], [source], cache_examples=False)
        options: dict[str, Any] = {"outputs": boards, "show_progress": "hidden", "concurrency_limit": None}

        # Gradio passes the request by its annotation.
        def on_play(text: str, rate: float, left: str, right: str, request: gradio.Request):
            yield from visitors.play(str(request.session_hash), text, rate, left, right)

        def on_type(text: str, left: str, right: str, request: gradio.Request):
            yield from visitors.type(str(request.session_hash), text, left, right)

        def on_leave(request: gradio.Request):
            visitors.stop(str(request.session_hash))

        # What comes new takes the place of what runs.
        options["trigger_mode"] = "multiple"
        play.click(on_play, [source, rate, left, right], **options)
        source.input(on_type, [source, left, right], **options)
        stop.click(on_leave, None, None, queue=False)
        page.unload(on_leave)
    return page


class Visitors:
    """Each visitor's translations; a new one, a stop or leaving gives up the old ones.

    Args:
        engine (`StreamEngine`): started.
    """

    def __init__(self, engine: StreamEngine):
        self.engine = engine
        self._live: dict[str, list[LiveTranslation]] = {}

    def play(self, visitor: str, text: str, rate: float, left: str, right: str) -> Iterator[list[str]]:
        """Feed the words of a text at so many a second, until the visitor stops, leaves or begins anew.

        Args:
            visitor (`str`): who.
            text (`str`): the source.
            rate (`float`): words per second, from 0.5 to 20.
            left, right (`str`): names of policies; `right` may be `"nothing"`.

        Yields:
            `list[str]`: HTML of both boards, whenever they change.
        """
        rate = min(max(rate, RATES[0]), RATES[1])
        words = split_words(text[:MAX_CHARACTERS])
        if not words:
            yield [_message("Type or paste a source first."), ""]
            return
        try:
            panels = self._open(visitor, left, right)
        except EngineFull:
            yield [_message(_FULL), ""]
            return
        try:
            for count in range(1, len(words) + 1):
                for panel in panels:
                    panel.feed(words[:count])
                yield from self._watch(visitor, panels, time.monotonic() + 1 / rate)
                if not self._shows(visitor, panels):
                    return
            for panel in panels:
                panel.end()
            yield from self._watch(visitor, panels)
        finally:
            # Also where the visitor has gone and Gradio drops this generator.
            for panel in panels:
                panel.cancel()

    def type(self, visitor: str, text: str, left: str, right: str) -> Iterator[list[str]]:
        """Feed what was typed: words that a space or line end follows; a line end ends the source.

        Args:
            visitor, left, right: as in [`Visitors.play`].
            text (`str`): all that stands in the field.

        Yields:
            `list[str]`: HTML of both boards, whenever they change.
        """
        text = text[:MAX_CHARACTERS]
        words = split_words(text[: max(text.rfind(" "), text.rfind("\n")) + 1])
        panels = self._live.get(visitor, [])
        if not words:
            return
        goes_on = [panel.title for panel in panels] == _titles(left, right) and not any(
            panel.is_done or panel.source != words[: len(panel.source)] for panel in panels
        )
        if not goes_on:
            try:
                panels = self._open(visitor, left, right)
            except EngineFull:
                yield [_message(_FULL), ""]
                return
        for panel in panels:
            panel.feed(words)
            if text.endswith("\n"):
                panel.end()
        # The next key press shows what comes later; without one, this has to.
        yield from self._watch(visitor, panels, time.monotonic() + 3)

    def stop(self, visitor: str) -> None:
        """Give up what a visitor has running; also called when the page is left."""
        for panel in self._live.pop(visitor, []):
            panel.cancel()

    def _open(self, visitor: str, left: str, right: str) -> list[LiveTranslation]:
        for panel in self._live.pop(visitor, []):
            panel.cancel()
        panels: list[LiveTranslation] = []
        try:
            for title in _titles(left, right):
                panels.append(LiveTranslation(self.engine, _POLICIES[title], title, wait_s=WAIT_S))
        except EngineFull:
            for panel in panels:
                panel.cancel()
            raise
        self._live[visitor] = panels
        return panels

    def _shows(self, visitor: str, panels: list[LiveTranslation]) -> bool:
        """Whether these are still what the visitor wants to see."""
        return self._live.get(visitor) is panels

    def _watch(self, visitor: str, panels: list[LiveTranslation], until: float | None = None) -> Iterator[list[str]]:
        """Boards as they change, until a time or the end of all."""
        shown = None
        while self._shows(visitor, panels):
            is_done = all(panel.is_done for panel in panels)
            state = [(len(panel.source), len(panel.target), panel.error) for panel in panels]
            if state != shown:
                yield _boards(panels)
                shown = state
            if (until is not None and time.monotonic() >= until) or (until is None and is_done):
                return
            time.sleep(0.05)


def _titles(left: str, right: str) -> list[str]:
    return [title for title in (left, right) if title != _NONE]


def _boards(panels: list[LiveTranslation]) -> list[str]:
    drawn = []
    for panel in panels:
        words = list(panel.target)
        drawn.append(
            board(
                panel.title,
                list(panel.source),
                [word.text for word in words],
                [word.delay for word in words],
                panel.lagging_words(),
                panel.median_ms(),
                panel.error,
            )
        )
    return [*drawn, *[""] * (2 - len(drawn))]


def _message(text: str) -> str:
    return board(text, [], [], [])


__all__ = ["MAX_CHARACTERS", "Visitors", "build_page"]
