# SPDX-License-Identifier: Apache-2.0
"""The folder that lends our decoding to stock models."""

import os
from pathlib import Path

from transformers.dynamic_module_utils import get_relative_import_files

from ..models import custom_generate as borrowed
from ..models.families import MODEL_TYPES
from ..text_files import write_text
from .names import name_on_hub

# Transformers looks for it under this name.
FOLDER, FILE = "custom_generate", "generate.py"


def save_custom_generate(folder: str | os.PathLike, name: str | None = None) -> Path:
    """Write a folder for the Hub that holds the decoding and no model: `custom_generate/` and a card.

    Not into a model's own folder: Transformers would replace that model's `generate` by it.

    Args:
        folder (`str` or `os.PathLike`): made if it is not there.
        name (`str`, *optional*): of it on the hub; the folder's unless told.

    Raises:
        ValueError: if there is a model in the folder, or for a name that the Hub would not take.

    Example:

    ```python
    >>> import tempfile
    >>> from transformers_simul.publishing.custom_generate import save_custom_generate
    >>> folder = save_custom_generate(tempfile.mkdtemp(), "team/simul-decoding")
    >>> (folder / "custom_generate" / "generate.py").is_file()
    True

    ```
    """
    folder = Path(folder)
    if (folder / "config.json").exists():
        raise ValueError(f"folder must hold no model, whose generate() would be replaced, got {str(folder)!r}.")
    name = name_on_hub(name, folder)
    entry = Path(borrowed.__file__)
    for path in {Path(file) for file in get_relative_import_files(entry)}:
        write_text(folder / FOLDER / path.name, path.read_text(encoding="utf-8"))
    # Last: with it, the folder is whole.
    write_text(folder / FOLDER / FILE, entry.read_text(encoding="utf-8"))
    card = _CARD.format(name=name, families=", ".join(f"`{each}`" for each in MODEL_TYPES))
    write_text(folder / "README.md", card)
    return folder


_CARD = """---
library_name: transformers
license: apache-2.0
tags:
- custom_generate
- simultaneous-translation
---

# {name}

Simultaneous translation for models that were not made for it: the translation is written while the source is read, the
key/value cache is kept, and no word is revised (SimulMask, [arXiv 2405.10443](https://arxiv.org/abs/2405.10443)).

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct").eval()
tokenizer = AutoTokenizer.from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct")
output = model.generate(
    custom_generate="{name}", trust_remote_code=True, tokenizer=tokenizer, source="A dog runs over the meadow.",
    source_lang="en", target_lang="fr", use_chat_template=True, wait_k=3, return_dict_in_generate=True,
)
for ids, delay in zip(output.words[0], output.delays[0]):
    print(tokenizer.decode(ids), "after", delay, "source words")
```

Without `use_chat_template`, `template` is the prompt, with `{{source}}` and `{{target}}`; `positions` is how positions
follow the schedule, `unit` what `wait_k` counts: `"word"`, `"char"` or `"token"`.
Families, by `model_type`: {families}. A model that was not fine-tuned for it usually translates worse at a small k.
"""

__all__ = ["save_custom_generate"]
