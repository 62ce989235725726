# SPDX-License-Identifier: Apache-2.0
"""Speech as source units: chunks of audio, each of which is encoded with the audio right before it and nothing else."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch

from .streams import SourceStream


class AudioToken(int):
    """The first token of a speech unit: the id that stands for audio in a row, with what the encoder takes of the unit.
    The unit's other tokens are the plain id.

    Attributes:
        features (`torch.Tensor`): of the unit's window, as a feature extractor makes them.
    """

    features: torch.Tensor

    @classmethod
    def unit(cls, token_id: int, features: torch.Tensor, tokens: int) -> list[int]:
        """Make the tokens of a unit.

        Args:
            token_id (`int`): stands for audio.
            features (`torch.Tensor`): of the unit's window.
            tokens (`int`): of a unit.
        """
        first = cls(token_id)
        first.features = features
        return [first, *[token_id] * (tokens - 1)]


class Chunking(NamedTuple):
    """How audio becomes units.

    Attributes:
        sampling_rate (`int`): samples a second.
        chunk_samples (`int`): of a unit.
        context_samples (`int`): right before a unit, which its embeddings depend on too; silence before the start.

    Example:

    ```python
    >>> import torch
    >>> from transformers_simul.models.audio_units import Chunking
    >>> Chunking(sampling_rate=16000, chunk_samples=2, context_samples=3).windows(torch.tensor([0.1, 0.2, 0.3]))
    tensor([[0.0000, 0.0000, 0.0000, 0.1000, 0.2000],
            [0.0000, 0.1000, 0.2000, 0.3000, 0.0000]])

    ```
    """

    sampling_rate: int
    chunk_samples: int
    context_samples: int

    def samples(self, audio: Any, sampling_rate: int | None = None) -> torch.Tensor:
        """Return audio as float32 of shape `(samples,)`.

        Args:
            audio: of shape `(samples,)`, real numbers in [-1, 1]: a tensor, an array or a list; or a mapping with
                `array` and `sampling_rate`, as in the datasets library.
            sampling_rate (`int`, *optional*): of the audio; without one it is taken to be right.

        Raises:
            ValueError: for another sampling rate, another shape, integers, or what is not a number.
        """
        if isinstance(audio, Mapping):
            audio, sampling_rate = audio["array"], audio["sampling_rate"]
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise ValueError(
                f"sampling_rate must be {self.sampling_rate}, the feature extractor's, got {sampling_rate}: resample "
                "the audio."
            )
        try:
            samples = torch.as_tensor(audio)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"audio must be real numbers, got {type(audio).__name__}: {error}.") from error
        if samples.ndim != 1:
            raise ValueError(f"audio must have one channel, shape (samples,), got {tuple(samples.shape)}.")
        if len(samples) and not samples.is_floating_point():
            raise ValueError(f"audio must be real numbers in [-1, 1], got {samples.dtype}: divide integers by 2**15.")
        samples = samples.detach().to("cpu", torch.float32)
        if not torch.isfinite(samples).all():
            raise ValueError("audio must be finite numbers, but some are NaN or infinite.")
        return samples

    def windows(self, samples: torch.Tensor, before: torch.Tensor | None = None) -> torch.Tensor:
        """Return the window of each unit: the context, then the chunk; the last chunk is filled up with silence.

        Args:
            samples (`torch.Tensor` of shape `(samples,)`): at least one.
            before (`torch.Tensor` of shape `(context_samples,)`, *optional*): the samples right before them; silence
                without.

        Returns:
            `torch.Tensor` of shape `(units, context_samples + chunk_samples)`.
        """
        before = samples.new_zeros(self.context_samples) if before is None else before
        silence = samples.new_zeros(-len(samples) % self.chunk_samples)
        whole = torch.cat([before, samples, silence])
        return whole.unfold(0, self.context_samples + self.chunk_samples, self.chunk_samples)


class ChunkEncoder:
    """Encodes the chunks of one live source, which come one after the other: an [`Encoder`] that knows what came
    before.

    Args:
        chunking (`Chunking`): of the processor.
        tokens_of (`Callable`): from windows of shape `(units, samples)` to the tokens of each unit.
    """

    def __init__(self, chunking: Chunking, tokens_of: Callable[[torch.Tensor], list[list[int]]]):
        self.chunking, self.tokens_of = chunking, tokens_of
        self._before = torch.zeros(chunking.context_samples)

    def encode_piece(self, piece: torch.Tensor) -> list[list[int]]:
        """Return the tokens of the next chunk.

        Args:
            piece (`torch.Tensor` of shape `(chunk_samples,)`): right after the piece before.
        """
        windows = self.chunking.windows(piece, self._before)
        self._before = torch.cat([self._before, piece])[len(piece) :]
        return self.tokens_of(windows)


class AudioStream(SourceStream):
    """Audio as it arrives, for `generate()` and [`StreamEngine`]: a [`SourceStream`] whose units are chunks.

    Args:
        chunk_ms (`int`): of the processor, whose `stream()` makes such a stream.
        sampling_rate (`int`, *optional*): of the audio.
        timeout_s, max_waiting, name (*optional*): as in [`SourceStream`].

    Example:

    ```python
    >>> import torch
    >>> from transformers_simul import AudioStream
    >>> stream = AudioStream(chunk_ms=320)
    >>> stream.put(torch.zeros(8000))
    >>> stream.put_units
    1
    >>> stream.end()  # the last chunk is filled up with silence
    >>> stream.put_units
    2

    ```
    """

    def __init__(
        self,
        chunk_ms: int,
        sampling_rate: int = 16000,
        timeout_s: float | None = None,
        max_waiting: int | None = None,
        name: str = "the source",
    ):
        super().__init__(timeout_s=timeout_s, max_waiting=max_waiting, name=name)
        self.unit = chunk_name(chunk_ms)
        self._chunking = Chunking(sampling_rate, samples_of(sampling_rate, "chunk_ms", chunk_ms), 0)

    def put(self, audio: Any) -> None:  # type: ignore[override]
        """Add a piece of audio of any length.

        Args:
            audio: as [`Chunking.samples`] takes it.

        Raises:
            ValueError: for audio that is wrong, or if the source has ended, was given up or is read no more.
            BufferError: if more than `max_waiting` chunks would wait unread; nothing of the piece is taken then.
        """
        samples = self._chunking.samples(audio)
        with self._lock:
            self._check_open(f"put of {len(samples)} samples")
            chunks = torch.cat([*self._partial, samples]).split(self._chunking.chunk_samples)
            whole = [chunk for chunk in chunks if len(chunk) == self._chunking.chunk_samples]
            waiting = len(self._waiting) + len(whole)
            self._check_waiting(waiting, f"{waiting} chunks")
            self._partial[:] = chunks[len(whole) :]
            self._add(whole)
        if whole:
            self._notify()

    def _complete_partial(self) -> None:
        if any(map(len, self._partial)):
            self._add([*self._chunking.windows(torch.cat(self._partial))])
        self._partial.clear()


def chunk_name(chunk_ms: int) -> str:
    """What a source of such chunks is called where units are compared."""
    return f"{chunk_ms} ms"


def samples_of(sampling_rate: int, name: str, milliseconds: int) -> int:
    """Return the number of samples in so many milliseconds.

    Args:
        sampling_rate (`int`): samples a second.
        name (`str`): what errors call the milliseconds.
        milliseconds (`int`): at least one sample.

    Raises:
        ValueError: if these are no whole number of samples, or none.
    """
    samples, rest = divmod(sampling_rate * milliseconds, 1000) if isinstance(milliseconds, int) else (0, 1)
    if samples < 1 or rest:
        raise ValueError(f"{name} must be a whole number of samples at {sampling_rate} Hz, got {milliseconds!r}.")
    return samples


def source_features(tokens: Iterable[int]) -> dict[str, torch.Tensor]:
    """Return what a forward needs of its speech units beside the ids; nothing for text.

    Args:
        tokens (`Iterable[int]`): of the forward, row by row.

    Returns:
        `dict[str, torch.Tensor]`: `source_features`, of shape `(units, ...)`, or nothing.
    """
    # The attribute decides, not the class: a saved folder brings a class of its own.
    found = [token.features for token in tokens if hasattr(token, "features")]
    return {"source_features": torch.stack(found)} if found else {}


__all__ = ["AudioStream", "AudioToken", "ChunkEncoder", "Chunking", "chunk_name", "samples_of", "source_features"]
