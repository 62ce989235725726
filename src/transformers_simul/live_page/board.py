# SPDX-License-Identifier: Apache-2.0
"""What a visitor sees of one translation, as HTML: text, figures, READ/WRITE grid. All text is escaped."""

from collections.abc import Sequence
from html import escape

_CELL, _TOP, _LETTER = 22, 74, 6.6
STYLE = """
.simul-board { border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 14px 16px; }
.simul-board h3 { margin: 0 0 2px; font-size: 15px; }
.simul-figures { color: var(--body-text-color-subdued); font-size: 13px; margin-bottom: 8px; }
.simul-text { font-size: 20px; line-height: 1.45; min-height: 58px; }
.simul-text .new { background: #fde7c7; color: #222; border-radius: 4px; }
.simul-grid svg { width: 100%; height: auto; }
.simul-grid text { font: 12px ui-sans-serif, system-ui, sans-serif; fill: var(--body-text-color); }
.simul-error { color: #b3261e; }
"""


def board(
    title: str,
    source: Sequence[str],
    target: Sequence[str],
    delays: Sequence[int],
    lagging_words: float | None = None,
    median_ms: float | None = None,
    error: str = "",
) -> str:
    """One panel.

    Args:
        title (`str`): the policy.
        source, target (`Sequence[str]`): words.
        delays (`Sequence[int]`): source words read before each target word.
        lagging_words (`float`, *optional*): LAAL so far.
        median_ms (`float`, *optional*): computing per word.
        error (`str`, *optional*): what went wrong.

    Example:

    ```python
    >>> from transformers_simul.live_page.board import board
    >>> html = board("k = 1", ["a", "<dog>"], ["ein", "Hund"], [1, 2])
    >>> html.count('class="read"'), html.count('class="write"'), "&lt;dog&gt;" in html
    (1, 2, True)

    ```
    """
    figures = [f"{len(source)} words read, {len(target)} written"]
    if lagging_words is not None:
        figures.append(f"LAAL {lagging_words:.1f} words")
    if median_ms is not None:
        figures.append(f"{median_ms:.0f} ms a word")
    words = [escape(word) for word in target]
    if words:
        words[-1] = f'<span class="new">{words[-1]}</span>'
    problem = f'<div class="simul-error">{escape(error)}</div>' if error else ""
    return (
        f'<div class="simul-board"><h3>{escape(title)}</h3><div class="simul-figures">{" · ".join(figures)}</div>'
        f'<div class="simul-text" lang="">{" ".join(words)}</div>{problem}'
        f'<div class="simul-grid">{_grid(source, target, delays)}</div></div>'
    )


def _grid(source: Sequence[str], target: Sequence[str], delays: Sequence[int]) -> str:
    if not source:
        return ""
    label = 12 + round(_LETTER * max((min(len(word), 17) for word in target), default=4))
    width, height = label + _CELL * len(source) + 50, _TOP + _CELL * len(target) + 6
    # As wide as it is, or as there is room for.
    parts = [
        f'<svg role="img" aria-label="read/write grid" viewBox="0 0 {width} {height}" style="max-width: {width}px">'
    ]
    for column, word in enumerate(source):
        x = label + _CELL * column + _CELL / 2
        shown = escape(_cut(word, 12))
        parts.append(f'<text transform="translate({x:.0f} {_TOP - 8}) rotate(-45)">{shown}</text>')
    for row, (word, delay) in enumerate(zip(target, delays, strict=True)):
        y = _TOP + _CELL * row
        parts.append(f'<text x="{label - 8}" y="{y + 15}" text-anchor="end">{escape(_cut(word, 17))}</text>')
        for column in range(len(source)):
            # The last word that was read is where the path stands when this one is written.
            kind, colour = ("read", "#9cc9dc") if column < delay else ("hidden", "transparent")
            kind, colour = ("write", "#d9622b") if column == delay - 1 else (kind, colour)
            parts.append(
                f'<rect class="{kind}" x="{label + _CELL * column}" y="{y}" width="{_CELL - 2}" height="{_CELL - 2}" '
                f'rx="3" fill="{colour}" stroke="#9aa4ab" stroke-opacity="0.35"/>'
            )
    return "".join([*parts, "</svg>"])


def _cut(word: str, most: int) -> str:
    return word if len(word) <= most else f"{word[: most - 1]}…"


__all__ = ["STYLE", "board"]
