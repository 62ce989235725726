# SPDX-License-Identifier: Apache-2.0
"""Translate utterances: end to end, and by a cascade whose recogniser hears each once for all policies."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
from tqdm import tqdm

from ...evaluation.instances import SpeechInstance
from ...models.policies import Policy
from ...speech.audio import RATE
from ...speech.dataset import Utterance
from ...speech.listening import Listener
from ...speech.recogniser import Recogniser, SpokenWord
from ...speech.record import SpeechRecord
from .data import utterance_audio

# What a recogniser committed after each block of audio.
Heard = list[list[SpokenWord]]


def translate_speech(
    model: Any, processor: Any, utterances: Sequence[Utterance], policy: Policy, batch_size: int = 16, **kwargs: Any
) -> list[SpeechInstance]:
    """Translate utterances simultaneously, each on its own.

    Args:
        model (`SimulSpeechForCausalLM`): put into evaluation mode.
        processor (`SimulSpeechProcessor`): saved beside it.
        utterances (`Sequence[Utterance]`): of a split.
        policy (`Policy`): when to READ and WRITE, in chunks.
        batch_size (`int`, *optional*): utterances in a batch; what is written does not depend on it, but the computing
            time in `elapsed` is that of the batch.
        **kwargs: further arguments of `generate()`.

    Returns:
        `list[SpeechInstance]`: in the order of `utterances`, delays in milliseconds of audio.
    """
    model.eval()
    order = sorted(range(len(utterances)), key=lambda index: -utterances[index].duration_s)
    done: dict[int, SpeechInstance] = {}
    for start in tqdm(range(0, len(order), batch_size), desc=repr(policy), unit="batch"):
        batch = order[start : start + batch_size]
        audio = [utterance_audio(utterances[index]) for index in batch]
        output = model.generate(
            **processor(source=audio).to(model.device), policy=policy, return_dict_in_generate=True, **kwargs
        )
        for row, index in enumerate(batch):
            length_ms: Any = 1000 * len(audio[row]) / RATE
            delays = processor.milliseconds(output.delays[row], length_ms)
            words = output.words[row]
            done[index] = SpeechInstance(
                index=index,
                prediction=processor.text(words),
                delays=delays,
                elapsed=replayed(delays, output.elapsed_ms[row]),
                prediction_length=len(words),
                reference=utterances[index].target,
                source=utterances[index].audio.name,
                source_length=length_ms,
            )
    return [done[index] for index in range(len(utterances))]


def replayed(delays_ms: Sequence[float], elapsed_ms: Sequence[float]) -> list[float]:
    """When each word would have been there had the audio come at its own pace: the computing of a word begins when its
    audio and the word before it are there.

    Args:
        delays_ms (`Sequence[float]`): of audio that was read before each word.
        elapsed_ms (`Sequence[float]`): computing time up to each word, with all audio at hand.

    Example:

    ```python
    >>> from transformers_simul.research.speech.decode import replayed
    >>> replayed([320, 320, 640], [100, 150, 250])
    [420.0, 470.0, 740.0]

    ```
    """
    times, ready, before = [], 0.0, 0.0
    for delay, elapsed in zip(delays_ms, elapsed_ms, strict=True):
        ready = max(ready, float(delay)) + elapsed - before
        before = elapsed
        times.append(round(ready, 3))
    return times


def recognise(recogniser: Recogniser, utterance: Utterance, block_ms: int) -> Heard:
    """What a recogniser commits after each block of an utterance, and at its end.

    Args:
        recogniser (`Recogniser`): for this utterance alone.
        utterance (`Utterance`): of a split.
        block_ms (`int`): milliseconds of a block.
    """
    blocks = [*_blocks(utterance, block_ms)]
    heard = [recogniser.hear(block) for block in blocks]
    return [*heard, recogniser.hear(blocks[0][:0], is_last=True)]


def _blocks(utterance: Utterance, block_ms: int) -> Iterator[numpy.ndarray]:
    samples, size = utterance_audio(utterance).numpy(), RATE * block_ms // 1000
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


class _Remembers:
    """A [`Recogniser`] that heard it all before."""

    def __init__(self, heard: Heard):
        self._heard = iter(heard)

    def hear(self, samples: numpy.ndarray, is_last: bool = False) -> list[SpokenWord]:
        return next(self._heard)


def translate_heard(
    model: Any,
    processor: Any,
    utterances: Sequence[Utterance],
    heard: Sequence[Heard],
    policy: Policy,
    block_ms: int,
    **kwargs: Any,
) -> list[SpeechInstance]:
    """Translate what was recognised, as it was.

    Args:
        model, processor: of text.
        utterances (`Sequence[Utterance]`): of a split.
        heard (`Sequence[Heard]`): of each.
        policy (`Policy`): when to READ and WRITE, in words.
        block_ms (`int`): as they were recognised.
        **kwargs: of [`Listener`].

    Returns:
        `list[SpeechInstance]`: in the order of `utterances`; `elapsed` leaves recognition out.
    """
    done = []
    for index, (utterance, words) in enumerate(zip(tqdm(utterances, desc=repr(policy)), heard, strict=True)):
        listener, record = Listener(model, processor, _Remembers(words), policy, **kwargs), SpeechRecord()
        for event in listener.listen(_blocks(utterance, block_ms)):
            record.add(event)
        name = Path(utterance.audio).name
        done.append(record.instance(index, name, listener.heard_s, utterance.target, processor))
    return done


__all__ = ["Heard", "recognise", "replayed", "translate_heard", "translate_speech"]
