# SPDX-License-Identifier: Apache-2.0
"""What the site does to a page: names in docstrings stand in brackets for Transformers' documentation, not for this."""

import re
from typing import Any


def on_page_content(html: str, **kwargs: Any) -> str:
    """Without the brackets."""
    return re.sub(r"\[(<code>[\w.]+</code>)\]", r"\1", html)
