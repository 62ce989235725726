# SPDX-License-Identifier: Apache-2.0
"""A microphone as blocks of samples, by PortAudio."""

import contextlib
import logging
import queue
import threading
from collections.abc import Iterator
from typing import Any

import numpy

from .audio import Converter

# Audio that may wait while the recogniser works; and how long a microphone may give nothing before it counts as gone.
MOST_WAITING_S, GONE_S = 30.0, 5.0

_logger = logging.getLogger(__name__)


def microphone_blocks(
    block_s: float = 0.5, device: str | int | None = None, stop: threading.Event | None = None
) -> Iterator[numpy.ndarray]:
    """What a microphone hears, at 16 kHz. If the recogniser falls behind, blocks grow; what is more than 30 s late is
    left out, with a warning.

    Args:
        block_s (`float`, *optional*): seconds of a block.
        device (`str` or `int`, *optional*): name or number, as PortAudio has it; the default one without.
        stop (`threading.Event`, *optional*): ends it once it is set.

    Yields:
        `numpy.ndarray`: float32, `(samples,)`.

    Raises:
        ValueError: if there is no such microphone, it does not start, or PortAudio or the package sounddevice is
            missing.
        OSError: if it vanishes while it is heard.
    """
    sounddevice = _sounddevice()
    blocks: queue.Queue[numpy.ndarray] = queue.Queue(max(1, round(MOST_WAITING_S / block_s)))
    stop, ended = stop or threading.Event(), threading.Event()

    def take(samples: numpy.ndarray, frames: int, time: Any, status: Any) -> None:
        try:
            blocks.put_nowait(samples.copy())
        except queue.Full:
            # What waited may have been taken meanwhile; an error would end the stream.
            with contextlib.suppress(queue.Empty):
                blocks.get_nowait()
            blocks.put_nowait(samples.copy())
            _logger.warning("the recogniser is %.0f s late: audio is left out.", MOST_WAITING_S)

    with contextlib.ExitStack() as stack:
        try:
            rate = int(sounddevice.query_devices(device, "input")["default_samplerate"])
            stream = sounddevice.InputStream(
                rate,
                blocksize=round(block_s * rate),
                device=device,
                channels=1,
                dtype="float32",
                callback=take,
                finished_callback=ended.set,
            )
            # It may be there and not start, for instance where another program has it.
            stack.enter_context(stream)
        except (sounddevice.PortAudioError, ValueError) as error:
            raise ValueError(f"there must be a microphone {device if device is not None else ''}: {error}") from error
        convert = Converter(rate, 1)
        while not stop.is_set():
            waiting = _waiting(blocks, min(GONE_S, 10 * block_s + 1), ended)
            if waiting is None:
                raise OSError("the microphone has vanished: it gives no more audio.")
            yield convert(waiting)
    yield convert.end()


def _waiting(blocks: "queue.Queue[numpy.ndarray]", wait_s: float, ended: threading.Event) -> numpy.ndarray | None:
    """Return all blocks that wait, or None if nothing comes."""
    try:
        pieces = [blocks.get(timeout=0.2 if ended.is_set() else wait_s)]
    except queue.Empty:
        return None
    with contextlib.suppress(queue.Empty):
        while True:
            pieces.append(blocks.get_nowait())
    return numpy.concatenate(pieces)


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise ValueError(
            "a microphone needs the package sounddevice: pip install 'transformers_simul[speech]'."
        ) from error
    except OSError as error:
        raise ValueError(f"a microphone needs PortAudio (apt-get install libportaudio2): {error}.") from error
    return sounddevice


__all__ = ["microphone_blocks"]
