# SPDX-License-Identifier: Apache-2.0
"""Learn from the corpus itself which source word each target word translates; [`AlignedPolicy`] trains on the
result."""

from collections.abc import Sequence
from typing import Any

MODELS = ("eflomal", "fast_align", "hmm")
_ITERATIONS = 5


def align_words(
    sources: Sequence[Sequence[str]], targets: Sequence[Sequence[str]], model: str = "eflomal"
) -> list[str]:
    """Learn the word alignments of a corpus in both directions, and symmetrise them by grow-diag-final-and (Koehn et
    al. 2003).

    The work is done by Thot (`sil-thot`, LGPL-3.0), an optional package that is used as it is. Words are compared
    without case and without the punctuation around them.

    Args:
        sources, targets (`Sequence[Sequence[str]]`): the words of each sentence. The links mean something from a few
            thousand pairs on.
        model (`str`, *optional*, defaults to `"eflomal"`): `"eflomal"` (Östling and Tiedemann 2016), `"fast_align"`
            (Dyer et al. 2013) or `"hmm"` (Vogel et al. 1996).

    Returns:
        `list[str]`: the links of each pair in Pharaoh's format, such as `"0-0 1-2"`, counted from 0.

    Raises:
        ValueError: for an unknown model, different numbers of sentences, or a sentence without a word.
        ImportError: if `sil-thot` is not installed.

    Example:

    ```python
    >>> from transformers_simul.training.alignment import align_words
    >>> align_words([["a", "dog"], ["a", "cat"]] * 40, [["ein", "Hund"], ["ein", "Kater"]] * 40)[0]
    '0-0 1-1'

    ```
    """
    if model not in MODELS:
        raise ValueError(f"model must be one of {MODELS}, got {model!r}.")
    if len(sources) != len(targets):
        raise ValueError(f"sources and targets must be equally many, got {len(sources)} and {len(targets)}.")
    for number, pair in enumerate(zip(sources, targets, strict=True), start=1):
        if not all(pair):
            raise ValueError(f"pair {number} must have words on both sides, got {' '.join(pair[0])!r} and {pair[1]!r}.")
    try:
        from thot import alignment as thot
    except ImportError as error:
        raise ImportError("Word alignment needs sil-thot: pip install 'transformers_simul[align]'.") from error
    pairs = [
        ([_bare(word) for word in source], [_bare(word) for word in target])
        for source, target in zip(sources, targets, strict=True)
    ]
    directions = _train(thot, model, pairs), _train(thot, model, [(target, source) for source, target in pairs])
    both = thot.SymmetrizedAlignmentModel(*directions)
    both.heuristic = thot.SymmetrizationHeuristic.GROW_DIAG_FINAL_AND
    found = both.get_best_alignments([source for source, _ in pairs], [target for _, target in pairs])
    return [_pharaoh(matrix) for _, matrix in found]


def _pharaoh(matrix: Any) -> str:
    sources, targets = matrix.to_numpy().nonzero()
    return " ".join(f"{source}-{target}" for source, target in zip(sources, targets, strict=True))


def _train(thot: Any, model: str, pairs: Sequence[tuple[list[str], list[str]]]) -> Any:
    kinds = {"eflomal": "EflomalAlignmentModel", "fast_align": "FastAlignModel", "hmm": "HmmAlignmentModel"}
    direction = getattr(thot, kinds[model])()
    if model == "eflomal":
        # The same links in every run.
        direction.deterministic = True
    for source, target in pairs:
        direction.add_sentence_pair(source, target)
    direction.start_training()
    for _ in range(_ITERATIONS):
        direction.train()
    direction.end_training()
    return direction


def _bare(word: str) -> str:
    """Return a word as the aligner counts it: "Morgen." is "morgen"; a lone sign stays itself."""
    letters = [index for index, letter in enumerate(word) if letter.isalnum()]
    return word[letters[0] : letters[-1] + 1].lower() if letters else word


__all__ = ["MODELS", "align_words"]
