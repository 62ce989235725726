# SPDX-License-Identifier: Apache-2.0
"""What the site does to a page: docstrings are written for Transformers' documentation, where names stand in brackets
and types are Markdown."""

import re
from typing import Any


def on_page_content(html: str, **kwargs: Any) -> str:
    """Names without brackets, types without backticks."""
    html = re.sub(r"\[(<code>[\w.]+</code>)\]", r"\1", html)
    return re.sub(r"<code>([^<]*`[^<]*)</code>", lambda match: _type(match[1]), html)


def _type(markdown: str) -> str:
    """A type as Transformers writes it, `` `int`, *optional* ``, in HTML."""
    html = re.sub(r"`([^`]*)`", r"<code>\1</code>", markdown)
    return re.sub(r"\*([^*<]+)\*", r"<em>\1</em>", html)
