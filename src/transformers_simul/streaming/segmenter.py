# SPDX-License-Identifier: Apache-2.0
"""Where sentences end in text that has neither punctuation nor capitals, as speech recognisers give it."""

import math
import os
import re
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import torch

# Weights, sentences' longest memory in words, pairs of a step, and the learning rate.
_BUCKETS, _LONGEST, _BATCH, _RATE = 2**18, 60, 1024, 0.1
_SIGNS = re.compile(r"[^\w'-]+")
_KIND = "transformers_simul.segmenter.1"
# What a file holds: float32 of these shapes.
_SHAPES = {"weights": (_BUCKETS,), "bias": (), "threshold": ()}


def plain_words(text: str) -> list[str]:
    """The words of a text as a recogniser without punctuation and capitals writes them.

    Args:
        text (`str`): any text.

    Example:

    ```python
    >>> from transformers_simul.streaming.segmenter import plain_words
    >>> plain_words("It's 3.5 km, isn't it?")
    ["it's", '35', 'km', "isn't", 'it']

    ```
    """
    return [word for word in map(_plain, text.split()) if word]


class Segmenter:
    """Tells from the words of a sentence so far, and the next word, whether the sentence ends between them.

    It is a logistic regression over hashed words, pairs of words, endings and lengths, and is learnt in a minute from
    the source side of the corpus that the model was trained on. The next word is one that the next READ takes anyway,
    so that no word comes later for it.

    Args:
        weights (`torch.Tensor` of shape `(262144,)`): of the features, float32.
        bias (`float`): of all places.
        threshold (`float`, *optional*, defaults to 0.3): the probability from which on a sentence ends.

    Raises:
        ValueError: if the weights have another shape or type, a number is not finite, or the threshold does not lie
            between 0 and 1.

    Example:

    ```python
    >>> from transformers_simul.streaming.segmenter import Segmenter
    >>> segmenter = Segmenter.train(["It rains.", "We stay at home.", "It snows again."] * 50)
    >>> segmenter(["we", "stay", "at"], "home"), segmenter(["we", "stay", "at", "home"], "it")
    (False, True)

    ```
    """

    def __init__(self, weights: torch.Tensor, bias: float, threshold: float = 0.3):
        _check_threshold(threshold)
        if weights.dtype != torch.float32 or weights.shape != _SHAPES["weights"]:
            raise ValueError(
                f"weights must be float32 of shape {_SHAPES['weights']}, got {weights.dtype} of {tuple(weights.shape)}."
            )
        if not (weights.isfinite().all() and math.isfinite(bias)):
            raise ValueError("weights and bias must be finite numbers, but some are NaN or infinite.")
        self.weights, self.bias, self.threshold = weights, bias, threshold

    def __call__(self, words: Sequence[str], following: str) -> bool:
        """Whether a sentence ends between words.

        Args:
            words (`Sequence[str]`): of the sentence so far, at least one.
            following (`str`): the next word.
        """
        return self.probability(words, following) >= self.threshold

    def probability(self, words: Sequence[str], following: str) -> float:
        """The probability that a sentence ends there; arguments as for calling."""
        logit = self.weights[_features(words[-_LONGEST:], following, len(words))].sum().item() + self.bias
        return torch.tensor(logit).sigmoid().item()

    @classmethod
    def train(cls, sentences: Iterable[str], passes: int = 2, threshold: float = 0.3, seed: int = 0) -> "Segmenter":
        """Learn from sentences with punctuation, which is taken away first; neighbours are taken as said in a row.

        Args:
            sentences (`Iterable[str]`): one of each; tens of thousands.
            passes (`int`, *optional*): over all of them.
            threshold (`float`, *optional*): as for the class.
            seed (`int`, *optional*): of the order.

        Raises:
            ValueError: for fewer than two sentences with words, no pass, or a threshold as for the class.
        """
        _check_threshold(threshold)
        if passes < 1:
            raise ValueError(f"passes must be at least 1, got {passes}.")
        words = [found for sentence in sentences if (found := plain_words(sentence))]
        if len(words) < 2:
            raise ValueError(f"sentences must be at least two with words, got {len(words)}.")
        # Four bytes a number: lists would take ten times as much.
        features, ends = array("i"), array("b")
        for seen, is_end in _places(words):
            features.extend(seen)
            ends.append(is_end)
        places = torch.frombuffer(features, dtype=torch.int32).view(len(ends), -1)
        labels = torch.tensor(ends, dtype=torch.float32)
        bag = torch.nn.EmbeddingBag(_BUCKETS, 1, mode="sum")
        torch.nn.init.zeros_(bag.weight)
        bias = torch.zeros((), requires_grad=True)
        optimizer = torch.optim.Adagrad([bag.weight, bias], lr=_RATE)
        order = torch.Generator().manual_seed(seed)
        for _ in range(passes):
            for batch in torch.randperm(len(places), generator=order).split(_BATCH):
                logits = bag(places[batch])[:, 0] + bias
                torch.nn.functional.binary_cross_entropy_with_logits(logits, labels[batch]).backward()
                optimizer.step()
                optimizer.zero_grad()
        return cls(bag.weight.detach()[:, 0].clone(), bias.item(), threshold)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the segmenter as a safetensors file of a megabyte.

        Args:
            path (`str` or `os.PathLike`): of the file.
        """
        from safetensors.torch import save

        from ..text_files import write_bytes

        data = {"weights": self.weights, "bias": torch.tensor(self.bias), "threshold": torch.tensor(self.threshold)}
        write_bytes(path, save(data, {"kind": _KIND}))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Segmenter":
        """Read what [`Segmenter.save`] has written.

        Args:
            path (`str` or `os.PathLike`): of the file.

        Raises:
            ValueError: if there is no such file, it is another, or it holds what no segmenter does.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise ValueError(f"segmenter must be a file that Segmenter.save has written, got {str(path)!r}.")
        try:
            with safe_open(path, "pt") as file:
                if (file.metadata() or {}).get("kind") != _KIND:
                    raise ValueError(
                        f"segmenter must be of the kind {_KIND!r}, got {file.metadata()} in {str(path)!r}."
                    )
                for name, shape in _SHAPES.items():
                    # Before it is read: a stranger's may be of any size.
                    part = file.get_slice(name)
                    if part.get_dtype() != "F32" or tuple(part.get_shape()) != shape:
                        raise ValueError(
                            f"{name} of a segmenter must be F32 of shape {shape}, got {part.get_dtype()} of "
                            f"{tuple(part.get_shape())} in {str(path)!r}."
                        )
                weights, bias, threshold = map(file.get_tensor, _SHAPES)
        except SafetensorError as error:
            raise ValueError(f"segmenter must be a safetensors file, got {str(path)!r}: {error}.") from error
        return cls(weights, bias.item(), round(threshold.item(), 6))


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must lie between 0 and 1, got {threshold}.")


def _plain(word: str) -> str:
    return _SIGNS.sub("", word).strip("'-").lower()


def _places(sentences: Sequence[Sequence[str]]) -> Iterator[tuple[list[int], bool]]:
    """Features of each place between two words, and whether a sentence ends there."""
    for sentence, following in pairwise(sentences):
        for end in range(1, len(sentence) + 1):
            is_end = end == len(sentence)
            yield (
                _features(sentence[max(0, end - _LONGEST) : end], following[0] if is_end else sentence[end], end),
                is_end,
            )


def _features(words: Sequence[str], following: str, length: int) -> list[int]:
    """Return the buckets of what is seen of a place, equally many for each place."""
    third, second, last = map(_plain, ["", "", *words][-3:])
    first, second_of_all = map(_plain, [*words, ""][:2])
    following, size = _plain(following), min(length, 30)
    seen = (
        ("last", last),
        ("last2", second, last),
        ("last3", third, second, last),
        ("next", following),
        ("both", last, following),
        ("both3", second, last, following),
        ("around", second, following),
        ("size", size),
        ("first", first, size),
        ("first2", first, second_of_all),
        ("size next", size, following),
        ("ending", last[-3:]),
        ("ending next", last[-3:], following),
        ("next ending", following[-3:]),
    )
    return [zlib.crc32(" ".join(map(str, each)).encode()) % _BUCKETS for each in seen]


__all__ = ["Segmenter", "plain_words"]
