# SPDX-License-Identifier: Apache-2.0
"""Audio of any usual format as float32 samples at 16 kHz, one channel: whole files, and blocks as they come."""

import logging
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy

# Samples a second that recognisers and encoders of speech take.
RATE = 16_000
# By ffmpeg's names, which people know: NumPy's type, the value of full scale, and what silence is.
PCM_FORMATS = {
    "u8": ("u1", 128, 128),
    "s16le": ("<i2", 1 << 15, 0),
    "s32le": ("<i4", 1 << 31, 0),
    "f32le": ("<f4", 1, 0),
}
# What files of other formats begin with, where raw samples are expected.
_CONTAINERS = {b"RIFF": "WAV", b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3", b"caff": "CAF", b"FORM": "AIFF"}
_FTYP, _MATROSKA = b"ftyp", b"\x1a\x45\xdf\xa3"
# What libsndfile says of a header that promises more bytes than there are; a program that writes into a pipe promises
# the most that a header can.
_CUT_OFF, _UNKNOWN_SIZES = re.compile(r"^data : (\d+) \(should be \d+\)", re.MULTILINE), {0, 2**31 - 1, 2**32 - 1}
_OPEN_END = "lacks an end-of-stream bit"
# Share of samples at full scale from which a recording counts as clipped.
_CLIPPED = 0.01

_logger = logging.getLogger(__name__)


class AudioFile:
    """A recording, read block by block.

    Args:
        path (`str` or `Path`): WAV, FLAC, Ogg, MP3 or another format of libsndfile, any rate, any channels.

    Attributes:
        duration_s (`float`): what its header says.

    Raises:
        ValueError: if it is none of these, holds no sample, or the package soundfile is missing.
        OSError: if it cannot be opened.
    """

    def __init__(self, path: str | Path):
        soundfile = _soundfile()
        self.path = str(path)
        with open(path, "rb") as file:
            if not file.read(1):
                raise ValueError(f"audio {self.path!r} must hold at least one sample, but is an empty file.")
        try:
            self._file = soundfile.SoundFile(self.path)
        except soundfile.LibsndfileError as error:
            raise ValueError(
                f"audio must be a WAV, FLAC, Ogg or MP3 file, got {self.path!r}: {error.error_string.strip()} "
                "ffmpeg converts others: ffmpeg -i FILE talk.wav."
            ) from error
        if not self._file.frames:
            raise ValueError(f"audio {self.path!r} must hold at least one sample.")
        said = self._file.extra_info
        if _OPEN_END in said or any(int(size) not in _UNKNOWN_SIZES for size in _CUT_OFF.findall(said)):
            _logger.warning("audio %r has no end, or is shorter than its header says: it was cut off.", self.path)
        self.duration_s = self._file.frames / self._file.samplerate

    def blocks(self, block_s: float, offset_s: float = 0.0, duration_s: float | None = None) -> Iterator[numpy.ndarray]:
        """Yield its samples at 16 kHz, mixed to one channel.

        Args:
            block_s (`float`): seconds of a block; the last may be shorter.
            offset_s (`float`, *optional*): where to begin.
            duration_s (`float`, *optional*): how much of it; to the end without.

        Yields:
            `numpy.ndarray`: float32, `(samples,)`.

        Raises:
            ValueError: if it does not reach to `offset_s`, or is damaged from its first block on. What is damaged later
                ends the recording, with a warning.
        """
        rate = self._file.samplerate
        begin, left = round(offset_s * rate), math.inf if duration_s is None else round(duration_s * rate)
        if not 0 <= begin < self._file.frames:
            raise ValueError(f"offset_s must lie in {self.path!r} of {self.duration_s:.1f} s, got {offset_s}.")
        self._file.seek(begin)
        convert = Converter(rate, self._file.channels)
        while left > 0 and (samples := self._read(min(left, max(1, round(block_s * rate))), begin)) is not None:
            left -= len(samples)
            yield convert(samples)
        rest = convert.end()
        if len(rest):
            yield rest

    def _read(self, frames: float, begin: int) -> numpy.ndarray | None:
        at = self._file.tell()
        try:
            samples = self._file.read(int(frames), dtype="float32", always_2d=True)
        except RuntimeError as error:
            if at == begin:
                raise ValueError(f"audio {self.path!r} is damaged: {error}") from error
            _logger.warning("audio %r is damaged after %.1f s, and ends there: %s", self.path, self._seconds(at), error)
            return None
        if not len(samples) and at < self._file.frames:
            _logger.warning("audio %r ends after %.1f s, before its header says.", self.path, self._seconds(at))
        return samples if len(samples) else None

    def _seconds(self, frames: int) -> float:
        return frames / self._file.samplerate

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "AudioFile":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read_audio(path: str | Path, offset_s: float = 0.0, duration_s: float | None = None) -> numpy.ndarray:
    """Read a recording, or a part of it, as float32 samples `(samples,)` at 16 kHz.

    Args:
        path (`str` or `Path`): see [`AudioFile`].
        offset_s (`float`, *optional*): where to begin.
        duration_s (`float`, *optional*): how much of it; to the end without.

    Raises:
        ValueError: as [`AudioFile`] and its `blocks`.
    """
    with AudioFile(path) as file:
        return numpy.concatenate([*file.blocks(60.0, offset_s, duration_s)])


def write_audio(path: str | Path, samples: numpy.ndarray) -> None:
    """Write samples at 16 kHz as 16-bit WAV or FLAC, by the file's name.

    Args:
        path (`str` or `Path`): of the file.
        samples (`numpy.ndarray`): between -1 and 1, `(samples,)`.
    """
    _soundfile().write(str(path), samples, RATE, subtype="PCM_16")


def pcm_blocks(
    file: BinaryIO, block_s: float, rate: int = RATE, channels: int = 1, pcm_format: str = "s16le"
) -> Iterator[numpy.ndarray]:
    """Yield raw samples as they come, for instance on standard input, at 16 kHz.

    Args:
        file (`BinaryIO`): to read from; a block is given on as soon as it is there.
        block_s (`float`): most seconds of a block.
        rate (`int`, *optional*): samples a second.
        channels (`int`, *optional*): interleaved.
        pcm_format (`str`, *optional*): one of [`PCM_FORMATS`].

    Yields:
        `numpy.ndarray`: float32, `(samples,)`.

    Raises:
        ValueError: for another format, a rate or a count of channels that is none, bytes that are a file's, or no byte.

    Example:

    ```python
    >>> import io
    >>> from transformers_simul.speech.audio import pcm_blocks
    >>> blocks = list(pcm_blocks(io.BytesIO(bytes([128, 255]) * 8000), block_s=0.5, pcm_format="u8"))
    >>> [len(block) for block in blocks], float(blocks[0].max())
    ([8000, 8000], 0.9921875)

    ```
    """
    if pcm_format not in PCM_FORMATS:
        raise ValueError(f"pcm_format must be one of {', '.join(PCM_FORMATS)}, got {pcm_format!r}.")
    dtype, scale, middle = PCM_FORMATS[pcm_format]
    convert, size = Converter(rate, channels), numpy.dtype(dtype).itemsize * channels
    read, rest, is_first = _reader(file), b"", True
    while data := read(max(1, round(block_s * rate)) * size - len(rest)):
        data = rest + data
        if is_first and len(data) < 4:
            rest = data
            continue
        if is_first:
            _check_raw(data)
            is_first = False
        whole = len(data) // size * size
        rest = data[whole:]
        if whole:
            samples = numpy.frombuffer(data[:whole], dtype).reshape(-1, channels).astype(numpy.float32)
            if not numpy.isfinite(samples).all():
                raise ValueError(
                    f"raw samples must be finite numbers, but some are NaN or infinite: are they {pcm_format}, as "
                    "pcm_format says?"
                )
            yield convert((samples - middle) / numpy.float32(scale))
    if is_first and not rest:
        raise ValueError("standard input must hold raw samples, but ended before the first.")
    if rest:
        _logger.warning("raw audio ended within a sample: %d bytes are left out.", len(rest))
    last = convert.end()
    if len(last):
        yield last


def _reader(file: BinaryIO) -> Any:
    """Reads what is there, without waiting for a whole block, where the file can."""
    return getattr(file, "read1", file.read)


def _check_raw(data: bytes) -> None:
    name = next((name for magic, name in _CONTAINERS.items() if data.startswith(magic)), None)
    # These need eight bytes; a first read that brings fewer is rare.
    name = "MP4" if data[4:8] == _FTYP else "Matroska or WebM" if data[:4] == _MATROSKA else name
    if name is not None:
        raise ValueError(
            f"standard input must be raw samples, but begins as a {name} file: name the file, or convert it with "
            f"ffmpeg -i FILE -f s16le -ar {RATE} -ac 1 -."
        )


class Converter:
    """Turns samples of any rate and number of channels into one channel at 16 kHz, block by block.

    Args:
        rate (`int`): samples a second that come.
        channels (`int`): of them.

    Raises:
        ValueError: if either is not in a usual range, or the package soxr is missing where it is needed.
    """

    def __init__(self, rate: int, channels: int):
        if not 4_000 <= rate <= 384_000:
            raise ValueError(f"rate must be between 4000 and 384000 samples a second, got {rate}.")
        if not 1 <= channels <= 64:
            raise ValueError(f"channels must be between 1 and 64, got {channels}.")
        self.channels, self._resampler = channels, None
        self._samples = self._at_full_scale = 0
        if rate != RATE:
            self._resampler = _soxr().ResampleStream(rate, RATE, 1, dtype="float32")

    def __call__(self, samples: numpy.ndarray) -> numpy.ndarray:
        """Convert a block.

        Args:
            samples (`numpy.ndarray`): float32 between -1 and 1, `(samples, channels)`.

        Raises:
            ValueError: for samples that are no finite numbers.
        """
        if not numpy.isfinite(samples).all():
            raise ValueError("audio must consist of finite samples, but some are NaN or infinite.")
        self._samples += samples.size
        self._at_full_scale += int((numpy.abs(samples) >= 0.999).sum())
        mono = samples.mean(1, dtype=numpy.float32).clip(-1, 1)
        return mono if self._resampler is None else self._resampler.resample_chunk(mono)

    def end(self) -> numpy.ndarray:
        """Return what the resampler still holds, and warn of a recording that was clipped."""
        if self._samples and self._at_full_scale / self._samples > _CLIPPED:
            share = self._at_full_scale / self._samples
            _logger.warning("audio is clipped: %.0f%% of its samples are at full scale; expect errors.", 100 * share)
        empty = numpy.zeros(0, dtype=numpy.float32)
        return empty if self._resampler is None else self._resampler.resample_chunk(empty, last=True)


def joined(blocks: Iterable[numpy.ndarray]) -> numpy.ndarray:
    """Join blocks to one array, also where there is none."""
    return numpy.concatenate([numpy.zeros(0, dtype=numpy.float32), *blocks])


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise ValueError("audio files need the package soundfile: pip install 'transformers_simul[speech]'.") from error
    return soundfile


def _soxr() -> Any:
    try:
        import soxr
    except ImportError as error:
        raise ValueError(
            f"audio that is not at {RATE} Hz needs the package soxr: pip install 'transformers_simul[speech]'."
        ) from error
    return soxr


__all__ = ["PCM_FORMATS", "RATE", "AudioFile", "Converter", "joined", "pcm_blocks", "read_audio", "write_audio"]
