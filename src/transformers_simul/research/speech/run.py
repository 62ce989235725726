# SPDX-License-Identifier: Apache-2.0
"""The experiment: train SimulMask and an offline model on the same speech, a text model for the cascade; translate at
every k. Everything that was finished before is kept."""

import copy
import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm
from transformers.trainer_utils import SchedulerType

from ...auto import AutoSimulModel
from ...corpora import Pair
from ...downloads import file_sha256
from ...evaluation.decode import finished_json, finished_log, run_settings, weights_key
from ...evaluation.flops import sentence_flops
from ...evaluation.instances import Instance
from ...evaluation.report import FULL_SOURCE, log_name
from ...models.policies import OfflinePolicy, Policy, WaitKPolicy
from ...models.processing import SimulProcessor
from ...models.processing_speech import SimulSpeechProcessor
from ...models.row_decoder import RowDecoder
from ...speech import transcribers, voice
from ...speech.agreement import LocalAgreementRecogniser
from ...speech.dataset import Utterance
from ...speech.recogniser import SpokenWord
from ...speech.writing import SentenceWriter
from ...training import (
    DataArguments,
    ModelArguments,
    ProgramArguments,
    encode,
    fine_tune,
    make_model,
    make_processor,
    prepare_folder,
    training_record,
)
from ...training.data_collator import SimulMaskDataCollator
from ..baselines.recompute import RecomputingDecoder
from .arguments import SpeechArguments
from .data import SpeechPairs, make_speech_model, make_speech_processor, transcript_ids, utterance_audio
from .decode import Heard, recognise, translate_heard, translate_speech
from .transcription import WEIGHTS, check_places, load_hearing, train_transcriber

# A small model may not find an end.
_LIMIT = {"max_new_tokens": 200}


class SpeechSystem(NamedTuple):
    """A line of the comparison.

    Attributes:
        name (`str`): of it.
        model (`str`): folder of its model.
        row_decoder (`type`): how it reads and writes.
        is_offline (`bool`): hears all before it writes.
    """

    name: str
    model: str
    row_decoder: type[RowDecoder] = RowDecoder
    is_offline: bool = False


SYSTEMS = (
    SpeechSystem("offline", "offline", is_offline=True),
    SpeechSystem("offline-rec", "offline", RecomputingDecoder),
    SpeechSystem("offline-norec", "offline"),
    SpeechSystem("SM-norec", "simulmask"),
)
CASCADE = SpeechSystem("cascade", "text")
# Folder of the encoder that learns to transcribe first.
HEARING = "hearing"


@dataclass(frozen=True)
class SpeechExperiment:
    """The comparison and where it lives.

    Attributes:
        folder (`Path`): of everything that it writes.
        train_set, test_set (`list[Utterance]`): the speech.
        arguments, data, model, training: the flags.
    """

    folder: Path
    train_set: list[Utterance]
    test_set: list[Utterance]
    arguments: SpeechArguments
    data: DataArguments
    model: ModelArguments
    training: ProgramArguments

    @property
    def systems(self) -> list[SpeechSystem]:
        """The cascade too, unless it is left out."""
        return [*SYSTEMS, *([CASCADE] if self.arguments.recogniser != "none" else [])]

    def trained_models(self) -> list[str]:
        """Return the folders of the models that are trained here."""
        given = bool(self.arguments.cascade_model)
        models = [system.model for system in self.systems if not (given and system == CASCADE)]
        return [*([HEARING] if self.arguments.transcription_steps else []), *dict.fromkeys(models)]

    def cells(self) -> list[tuple[SpeechSystem, str, Policy]]:
        """System, name of the line and policy of each log."""
        cells: list[tuple[SpeechSystem, str, Policy]] = []
        for system in self.systems:
            if system.is_offline:
                cells.append((system, FULL_SOURCE, OfflinePolicy()))
            else:
                cells += [(system, f"k = {k}", WaitKPolicy(k)) for k in self.arguments.eval_wait_k]
        return cells

    def train(self) -> None:
        """Train what is not trained yet."""
        speech = SpeechPairs(self.train_set, self.processor, self.arguments.keep_features)
        hearing = {}
        if self.arguments.transcription_steps:
            self._train_hearing(speech)
            # A time limit that is raised makes another encoder of it.
            hearing = {"hearing": file_sha256(self.folder / "models" / HEARING / WEIGHTS)}
        for name, policy in (("offline", OfflinePolicy()), ("simulmask", self.arguments.training_policy())):
            self._train(name, policy, self.processor, self._new_model, speech, **hearing)
        if CASCADE in self.systems and not self.arguments.cascade_model:
            text = make_processor(self.model, self.data, self._pairs)
            model = functools.partial(make_model, self.model, text, seed=self.training.seed)
            self._train("text", self.arguments.training_policy(), text, model, encode(text, self._pairs))

    def translate(self) -> dict[tuple[str, str], list[Instance]]:
        """The logs of all cells by (system, line); finished ones are read."""
        logs = {}
        for system, line, policy in self.cells():
            # The cascade's recogniser is part of its output.
            details = [self.arguments.recogniser, self.arguments.chunk_ms] if system == CASCADE else []
            key = weights_key(
                str(self.model_folder(system)), self.test_set, system.row_decoder.__name__, repr(policy), *details
            )
            logs[system.name, line] = finished_log(
                self.folder / "logs" / system.name / log_name(line) / "instances.log",
                key,
                functools.partial(self._translate, system, policy),
                self.settings(system, policy),
            )
        return logs

    def count_flops(self) -> dict[str, list[int]]:
        """FLOPs of each of the first test utterances, by system that hears itself, at one k; finished counts are
        read."""
        utterances = self.test_set[: self.arguments.flops_utterances]
        counts = {}
        for system in SYSTEMS:
            folder, path = self.model_folder(system), self.folder / "flops" / f"{system.name}.json"
            policy = OfflinePolicy() if system.is_offline else WaitKPolicy(self.arguments.flops_k)
            key = weights_key(str(folder), utterances, system.row_decoder.__name__, repr(policy))
            count = functools.partial(self._count_flops, system, policy, utterances)
            counts[system.name] = finished_json(path, key, "flops", count)
        return counts

    def _count_flops(self, system: SpeechSystem, policy: Policy, utterances: list[Utterance]) -> list[int]:
        audio = [utterance_audio(each) for each in utterances]
        return sentence_flops(
            self._load(system), self.processor, audio, policy, row_decoder=system.row_decoder, **_LIMIT
        )

    def _load(self, system: SpeechSystem) -> Any:
        model = AutoSimulModel.from_pretrained(str(self.model_folder(system)))
        return model.to(self.training.device).eval()

    def model_folder(self, system: SpeechSystem) -> Path:
        """Return the folder of the system's model."""
        given = self.arguments.cascade_model if system == CASCADE else None
        return Path(given) if given else self.folder / "models" / system.model

    def settings(self, system: SpeechSystem, policy: Policy) -> dict[str, str]:
        """What the signature of a log says of its run."""
        heard = {"recogniser": self.arguments.recogniser} if system == CASCADE else {}
        details = {"system": system.name, "decoder": system.row_decoder.__name__, **heard}
        return run_settings(
            policy, torch.float32, self.training.device, **details, chunk_ms=str(self.arguments.chunk_ms)
        )

    @functools.cached_property
    def processor(self) -> SimulSpeechProcessor:
        """The processor of both speech models."""
        return make_speech_processor(self.arguments, self.model, self.data, self._pairs)

    @functools.cached_property
    def _pairs(self) -> list[Pair]:
        return [Pair(each.source, each.target) for each in self.train_set]

    def hearing(self) -> Any:
        """The [`Transcriber`] that both models of speech begin with."""
        model: Any = make_speech_model(self.arguments, self.model, self.processor, self.training.seed)
        return load_hearing(model.to(self.training.device).eval(), self.folder / "models" / HEARING)

    def _new_model(self) -> Any:
        model = make_speech_model(self.arguments, self.model, self.processor, self.training.seed)
        if self.arguments.transcription_steps:
            load_hearing(model, self.folder / "models" / HEARING)
        return model

    def _train_hearing(self, speech: SpeechPairs) -> None:
        here = copy.copy(self.training)
        here.output_dir = str(self.folder / "models" / HEARING)
        here.max_steps = self.arguments.transcription_steps
        here.learning_rate = self.arguments.transcription_learning_rate
        # Both models go on from here at a rate of their own.
        here.lr_scheduler_type = SchedulerType.CONSTANT_WITH_WARMUP
        minutes = self.arguments.transcription_minutes
        record = self._record(here, {})
        if not prepare_folder(Path(here.output_dir), record, minutes, self.training.overwrite_output_dir):
            return
        print("\nhearing: encoder and projector learn to transcribe", flush=True)
        transcripts = [transcript_ids(self.processor, each.source) for each in self._pairs]
        durations_s = [each.duration_s for each in self.train_set]
        check_places(transcripts, durations_s, self.arguments.chunk_ms, self.arguments.unit_tokens)
        vocabulary = sorted({token for each in transcripts for token in each})
        model = make_speech_model(self.arguments, self.model, self.processor, self.training.seed)
        train_transcriber(model, vocabulary, speech, here, record, minutes)

    def _record(self, training: ProgramArguments, decisions: dict[str, Any]) -> dict[str, Any]:
        names = ("chunk_ms", "context_ms", "unit_tokens", "mel_bins", "frame_ms", "noisy", "voices")
        return training_record(
            self.model,
            self.data,
            training,
            {"train": self._pairs, "validation": []},
            # Of the text model nothing depends on these, but a record that says more does no harm.
            speech={name: getattr(self.arguments, name) for name in names}
            | {"encoder": [self.arguments.encoder_size, self.arguments.encoder_layers, self.arguments.encoder_heads]},
            **decisions,
        )

    def _train(self, name: str, policy: Policy, processor: Any, model: Any, dataset: Any, **decisions: str) -> None:
        folder = self.folder / "models" / name
        record = self._record(self.training, {"policy": repr(policy), **decisions})
        if not prepare_folder(folder, record, starts_anew=self.training.overwrite_output_dir):
            return
        print(f"\n{name}: {policy!r}", flush=True)
        collator = SimulMaskDataCollator(
            processor, policy, max_length=self.data.max_length, too_long="drop", seed=self.training.seed
        )
        here = copy.copy(self.training)
        here.output_dir = str(folder)
        fine_tune(model(), processor, collator, dataset, None, here, record)

    def _translate(self, system: SpeechSystem, policy: Policy) -> list[Instance]:
        if system == CASCADE:
            text, block_ms = (
                SimulProcessor.from_pretrained(self.model_folder(system)),
                self.arguments.chunk_ms,
            )
            return [*translate_heard(self._load(system), text, self.test_set, self.heard(), policy, block_ms, **_LIMIT)]
        batch_size = self.arguments.predict_batch_size
        return [
            *translate_speech(
                self._load(system),
                self.processor,
                self.test_set,
                policy,
                batch_size,
                row_decoder=system.row_decoder,
                **_LIMIT,
            )
        ]

    def heard(self) -> Sequence[Heard]:
        """What the recogniser of the cascade heard, each utterance once; kept beside the logs."""
        key = repr((self.arguments.recogniser, self.arguments.chunk_ms, self.test_set))
        found = finished_json(self.folder / "heard.json", key, "heard", self._hear)
        return [[[SpokenWord(*word) for word in each] for each in words] for words in found]

    def _hear(self) -> list[Heard]:
        # It would print a line for each piece of audio.
        logging.getLogger("faster_whisper").setLevel(logging.WARNING)
        transcriber = transcribers.make_transcriber(self.arguments.recogniser, self.data.source_lang)
        heard = []
        for utterance in tqdm(self.test_set, desc="recognising", unit="utterance"):
            recogniser = LocalAgreementRecogniser(transcriber, voice.SileroVoice())
            words = recognise(recogniser, utterance, self.arguments.chunk_ms)
            if not transcriber.punctuates:
                writer = SentenceWriter(self.data.source_lang)
                words = [writer.write(each, index == len(words) - 1) for index, each in enumerate(words)]
            heard.append(words)
        return heard


__all__ = ["CASCADE", "HEARING", "SYSTEMS", "SpeechExperiment", "SpeechSystem"]
