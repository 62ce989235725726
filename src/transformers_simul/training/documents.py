# SPDX-License-Identifier: Apache-2.0
"""Documents as training examples: runs of consecutive sentences, which the collator puts into one row."""

from collections.abc import Iterable, Mapping
from typing import Any

from datasets import Dataset

from ..models.policies import check_count


def join_documents(examples: Iterable[Mapping[str, Any]], most_sentences: int = 8) -> Dataset:
    """Join consecutive examples of a document to one example, for [`SimulMaskDataCollator`] with `context_sentences`.

    An example of the result is a run of sentences, so that a Trainer may shuffle and group them: what belongs together
    stays together.

    Args:
        examples (`Iterable[Mapping]`): as the collator takes them, in the order of the text, with a column `document`
            that is the same for all sentences of one; where it is None, the sentence stands alone.
        most_sentences (`int`, *optional*, defaults to 8): longest run. The first sentences of each have less context
            than the others, as those of a document have.

    Returns:
        `Dataset` with the column `sentences`; and `length`, if the examples have it, which is their sum.

    Raises:
        ValueError: for examples without the column, none at all, or `most_sentences` below 1.

    Example:

    ```python
    >>> from transformers_simul import join_documents
    >>> pairs = [("a dog", "ein Hund", 1), ("it runs", "er rennt", 1), ("two children", "zwei Kinder", 2)]
    >>> joined = join_documents([dict(zip(("source", "target", "document"), pair)) for pair in pairs])
    >>> [[sentence["source"] for sentence in each["sentences"]] for each in joined]
    [['a dog', 'it runs'], ['two children']]

    ```
    """
    check_count("most_sentences", most_sentences)
    runs: list[list[dict[str, Any]]] = []
    document = None
    for example in examples:
        if "document" not in example:
            raise ValueError(f"join_documents needs the column document, got {sorted(example)}.")
        sentence = dict(example)
        before, document = document, sentence.pop("document")
        if document is None or document != before or len(runs[-1]) == most_sentences:
            runs.append([])
        runs[-1].append(sentence)
    if not runs:
        raise ValueError("join_documents needs at least one example, got none.")
    has_length = all("length" in sentence for run in runs for sentence in run)
    return Dataset.from_list(
        [
            {"sentences": run} | ({"length": sum(sentence["length"] for sentence in run)} if has_length else {})
            for run in runs
        ]
    )


__all__ = ["join_documents"]
