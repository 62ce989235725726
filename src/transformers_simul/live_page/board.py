# SPDX-License-Identifier: Apache-2.0
"""What a visitor sees, as HTML: the state, and for each policy the text, its figures and the READ/WRITE grid.

All text is escaped. A long translation stays readable: its newest part is shown and the rest is folded.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

# Newest target words, and what the grid has room for.
TEXT_WORDS, ROWS, COLUMNS = 60, 20, 20
# Under #output, as Gradio's own rules for text are narrow ones.
STYLE = """
#output { --read: #9cc9dc; --write: #d9622b; --line: #9aa4ab59; 
  --quiet: color-mix(in srgb, var(--body-text-color) 65%, transparent); }
.dark #output { --read: #2c4a57; --write: #a85a34; --line: #9aa4ab33; }
#output .simul-boards { display: grid; gap: 12px; grid-template-columns: minmax(0, 1fr); }
#output .simul-boards.two { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
#output .simul-board, #output .simul-grid { border: 1px solid var(--border-color-primary); border-radius: 10px;
  padding: 10px 14px; }
#output h3 { margin: 0 0 4px; font-size: 15px; }
#output .simul-text { font-size: 20px; line-height: 1.4; min-height: 1.4em; overflow-wrap: anywhere; }
#output .simul-text .new { background: #f3a64a47; border-radius: 4px; }
#output .simul-status { font-size: 15px; min-height: 1.5em; overflow-wrap: anywhere; }
#output .simul-board details, #output .simul-board summary, #output .simul-hint, #output .simul-folded {
  font-size: 14px; color: var(--quiet); overflow-wrap: anywhere; }
#output .simul-figures, #output .simul-legend { font-size: 13px; color: var(--quiet); }
#output .simul-error { color: #b3261e; font-size: 15px; }
.dark #output .simul-error { color: #f2b8b5; }
/* Scrolled to its right end at first, where the newest words are; the target words stay in sight. */
#output .simul-scroll { direction: rtl; overflow-x: auto; }
#output table { direction: ltr; border-collapse: separate; border-spacing: 2px; margin: 0 auto 0 0; width: auto;
  border: 0; }
#output tr { border: 0; background: none; }
#output th { font-weight: 400; font-size: 13px; line-height: 18px; padding: 0; border: 0; text-align: right;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; background: none; }
#output tbody th, #output .corner { position: sticky; left: 0; max-width: 112px; padding-right: 6px;
  background: var(--body-background-fill); }
#output thead th { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 96px; text-align: left; }
#output td { min-width: 18px; height: 18px; padding: 0; border: 1px solid var(--line); border-radius: 3px; }
#output td.read, #output .simul-key.read { background: var(--read); }
#output td.write, #output .simul-key.write { background: var(--write); }
#output .simul-legend { grid-column: 1 / -1; }
#output .simul-key { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin: 0 4px -1px 6px; }
@media (max-width: 700px) {
  #output .simul-boards, #output .simul-boards.two { grid-template-columns: minmax(0, 1fr); gap: 8px; }
  /* Both texts first: they fit on a phone's screen, above the grids. */
  #output .simul-grid { order: 1; padding: 8px 10px; }
  #output .simul-legend { order: 2; }
  #output .simul-board { padding: 6px 10px; }
  #output .simul-text { font-size: 18px; }
}
"""
_LEGEND = (
    '<div class="simul-legend">A row is a written word: <span class="simul-key read"></span>source words that had '
    'been read, <span class="simul-key write"></span>the last of them.</div>'
)


class Panel(NamedTuple):
    """What is shown of one translation.

    Attributes:
        title (`str`): the policy.
        source, target (`Sequence[str]`): words.
        delays (`Sequence[int]`): source words read before each target word.
        lagging_words (`float`, *optional*): LAAL.
        median_ms (`float`, *optional*): median computing time per word.
        is_done (`bool`): whether nothing more will be written.
        untranslated_words (`int`): source words for which nothing was written.
        error (`str`): what went wrong.
    """

    title: str
    source: Sequence[str] = ()
    target: Sequence[str] = ()
    delays: Sequence[int] = ()
    lagging_words: float | None = None
    median_ms: float | None = None
    is_done: bool = False
    untranslated_words: int = 0
    error: str = ""


def boards(panels: Sequence[Panel], hint: str = "") -> str:
    """Draw one or two panels side by side, or below each other if the window is narrow. `hint` stands in panels without
    a word.

    Example:

    ```python
    >>> from transformers_simul.live_page.board import Panel, boards
    >>> html = boards([Panel("wait-1", ["a", "<dog>"], ["ein", "Hund"], [1, 2])])
    >>> html.count('class="read"'), html.count('class="write"'), "&lt;dog&gt;" in html
    (1, 2, True)

    ```
    """
    parts = [_text(panel, hint) for panel in panels] + [_grid(panel) for panel in panels]
    parts += [_LEGEND] if any(panel.target for panel in panels) else []
    return f'<div class="simul-boards{" two" if len(panels) > 1 else ""}">{"".join(parts)}</div>'


def status(text: str) -> str:
    """Draw the line above the boards, which screen readers read aloud."""
    return f'<div class="simul-status" role="status">{escape(text)}</div>'


def _text(panel: Panel, hint: str) -> str:
    figures = [f"{len(panel.source)} source words", f"{len(panel.target)} written"] if panel.source else []
    if panel.lagging_words is not None:
        figures.append(f"LAAL {panel.lagging_words:.1f} words")
    if panel.median_ms is not None:
        figures.append(f"{panel.median_ms:.0f} ms a word")
    if panel.is_done:
        figures.append("the translation has ended")
    notes = [f'<div class="simul-error">{escape(panel.error)}</div>'] if panel.error else []
    if panel.untranslated_words:
        count = f"{panel.untranslated_words} source word{'s' if panel.untranslated_words > 1 else ''}"
        notes.append(f'<div class="simul-error">For {count} nothing was written.</div>')
    words = [escape(word) for word in panel.target]
    earlier, newest = words[:-TEXT_WORDS], words[-TEXT_WORDS:]
    folded = f"<details><summary>{len(earlier)} earlier words</summary>{' '.join(earlier)}</details>" if earlier else ""
    if newest:
        newest[-1] = f'<span class="new">{newest[-1]}</span>'
    shown = " ".join(newest) or f'<span class="simul-hint">{escape(hint)}</span>'
    return (
        f'<section class="simul-board"><h3>{escape(panel.title)}</h3>{folded}'
        f'<div class="simul-text" lang="" dir="auto">{shown}</div>{"".join(notes)}'
        f'<div class="simul-figures">{" · ".join(figures)}</div></section>'
    )


def _grid(panel: Panel) -> str:
    if not panel.target:
        return '<div class="simul-grid" hidden></div>'
    first_row = max(len(panel.target) - ROWS, 0)
    # All of the source where there is room; else up to a little after the newest word's.
    end = len(panel.source) if len(panel.source) <= COLUMNS else min(len(panel.source), panel.delays[-1] + 3)
    start = max(end - COLUMNS, 0)
    head = "".join(f'<th scope="col">{escape(_cut(word, 14))}</th>' for word in panel.source[start:end])
    rows = []
    for word, delay in zip(panel.target[first_row:], panel.delays[first_row:], strict=True):
        cells = "".join(f"<td{_kind(column, delay)}></td>" for column in range(start, end))
        rows.append(f'<tr><th scope="row">{escape(_cut(word, 24))}</th>{cells}</tr>')
    folded = ""
    if first_row or end - start < len(panel.source):
        folded = (
            f'<div class="simul-folded">written words {first_row + 1} to {len(panel.target)}, '
            f"source words {start + 1} to {end} of {len(panel.source)}</div>"
        )
    return (
        f'<div class="simul-grid">{folded}<div class="simul-scroll"><table aria-label="read/write grid">'
        f'<thead><tr><th class="corner"></th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div></div>'
    )


def _kind(column: int, delay: int) -> str:
    """Return the class of a cell; the path is at the last word that had been read when the row's word was written."""
    if column == delay - 1:
        return ' class="write"'
    return ' class="read"' if column < delay else ""


def _cut(word: str, most: int) -> str:
    return word if len(word) <= most else f"{word[: most - 1]}…"


__all__ = ["STYLE", "Panel", "boards", "status"]
