# SPDX-License-Identifier: Apache-2.0
"""Names that cards put into commands and code."""

import re
from pathlib import Path

_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)


def name_on_hub(name: str | None, folder: Path) -> str:
    """Return a name that is safe inside a command and a string.

    Args:
        name (`str`, *optional*): as the Hub writes it; without it the folder's, with `-` for other characters.
        folder (`Path`): that the name is for.

    Raises:
        ValueError: for a name that the Hub would not take.

    Example:

    ```python
    >>> from pathlib import Path
    >>> from transformers_simul.publishing.names import name_on_hub
    >>> name_on_hub("team/simul-en-de", Path("output/demo")), name_on_hub(None, Path("my model (2)"))
    ('team/simul-en-de', 'my-model-2')

    ```
    """
    if name is None:
        return re.sub(r"[^\w.-]+", "-", folder.resolve().name, flags=re.ASCII).strip("-") or "model"
    if not _NAME.fullmatch(name):
        raise ValueError(f"name must be NAME or OWNER/NAME of letters, digits, '-', '_' and '.', got {name!r}.")
    return name


__all__ = ["name_on_hub"]
