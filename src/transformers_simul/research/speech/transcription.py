# SPDX-License-Identifier: Apache-2.0
"""The encoder learns to hear before it translates: units of audio are put where the language model's embeddings of the
spoken tokens stand."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainingArguments

from ...models.audio_units import source_features
from ...speech.dataset import Utterance
from ...text_files import read_json, write_text
from ...training.checkpoints import plain_errors
from ...training.record import write_record
from ...training.trainer import SimulTrainer
from .data import utterance_audio

WEIGHTS, VOCABULARY = "hearing.safetensors", "vocabulary.json"
# How sharp the choice between two tokens is: the difference of their logits where one's own embedding stands, if they
# are as far apart as any two.
_SHARPNESS = 10.0


class Transcriber(nn.Module):
    """Encoder and projector of a model of speech, with a CTC loss (Graves et al. 2006) over the tokens that are spoken.

    A token's logit falls with the squared distance of its embedding in the language model; the blank is the audio
    token. So what a unit says stands in the row as a source token of text would, and a model that was trained on text
    has little to learn anew. The embeddings do not train.

    Args:
        model (`SimulSpeechForCausalLM`): whose encoder and projector train.
        vocabulary (`Sequence[int]`): ids that may be spoken.
    """

    # What the Trainer's checkpoints ask of a model.
    all_tied_weights_keys: Mapping[str, str] = {}
    embeddings: torch.Tensor

    def __init__(self, model: Any, vocabulary: Sequence[int]):
        super().__init__()
        self.encoder, self.projector = model.encoder, model.projector
        # In a list, so that the language model is no part of this one.
        self._whole = [model]
        self.vocabulary = [model.config.audio_token_id, *vocabulary]
        embeddings = model.get_input_embeddings().weight.detach()[self.vocabulary].float()
        self.register_buffer("embeddings", embeddings, persistent=False)
        spread = (embeddings - embeddings.mean(0)).square().sum(1).mean()
        # How often an utterance had fewer places than tokens: it teaches nothing.
        self.too_fast = 0
        self.scale = float(_SHARPNESS / (2 * spread).clamp_min(1e-12))

    def log_probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """Return the log probabilities of blank and vocabulary, shape `(units * unit_tokens, 1 + vocabulary)`.

        Args:
            features (`torch.Tensor` of shape `(units, ...)`): of each unit's window.
        """
        heard = self._whole[0].embed_units(features).flatten(0, 1)
        with torch.autocast(heard.device.type, enabled=False):
            # Of the squared distance only what differs between tokens.
            near = 2 * heard.float() @ self.embeddings.T - self.embeddings.square().sum(1)
            return (self.scale * near).log_softmax(-1)

    def forward(self, features: torch.Tensor, units: torch.Tensor, transcripts: torch.Tensor) -> dict[str, Any]:
        """Return the loss of a batch.

        Args:
            features (`torch.Tensor` of shape `(units, ...)`): of all utterances, one after the other.
            units (`torch.Tensor` of shape `(utterances,)`): how many each has.
            transcripts (`torch.Tensor` of shape `(utterances, longest)`): tokens by their place in the vocabulary, from
                1; 0 after the last.

        Returns:
            `dict[str, torch.Tensor]`: `loss`, the mean over utterances of the loss per token; an utterance that has
            fewer places than tokens counts as 0 and is counted in `too_fast`.
        """
        lengths, spoken = units * self._whole[0].config.unit_tokens, (transcripts > 0).sum(1)
        # Between two tokens that are the same stands a blank.
        again = ((transcripts[:, 1:] == transcripts[:, :-1]) & (transcripts[:, 1:] > 0)).sum(1)
        is_too_fast = lengths < spoken + again
        self.too_fast += int(is_too_fast.sum())
        parts = self.log_probabilities(features).split(lengths.tolist())
        loss = nn.functional.ctc_loss(
            nn.utils.rnn.pad_sequence([*parts]), transcripts, lengths, spoken, zero_infinity=True
        )
        return {"loss": loss}

    @torch.inference_mode()
    def transcribe(self, features: torch.Tensor) -> list[int]:
        """The likeliest token of each place, repetitions and blanks left out.

        Args:
            features (`torch.Tensor` of shape `(units, ...)`): of an utterance.
        """
        best = self.log_probabilities(features).argmax(-1)
        kept = torch.unique_consecutive(best)
        return [self.vocabulary[place] for place in kept.tolist() if place]


class TranscriptCollator:
    """Batches of [`Transcriber`].

    Args:
        vocabulary (`Sequence[int]`): as there, without the blank.
    """

    def __init__(self, vocabulary: Sequence[int]):
        self._place = {token: place for place, token in enumerate(vocabulary, start=1)}

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """A batch of examples with `source_ids` (tokens of each unit of audio) and `transcript_ids`."""
        tokens = (token for each in examples for unit in each["source_ids"] for token in unit)
        transcripts = [torch.tensor([self._place[token] for token in each["transcript_ids"]]) for each in examples]
        return {
            "features": source_features(tokens)["source_features"],
            "units": torch.tensor([len(each["source_ids"]) for each in examples]),
            "transcripts": nn.utils.rnn.pad_sequence(transcripts, batch_first=True),
        }


def check_places(
    transcripts: Sequence[Sequence[int]], durations_s: Sequence[float], chunk_ms: int, unit_tokens: int
) -> None:
    """Fail before training if no utterance has as many places as its transcript has tokens.

    Args:
        transcripts (`Sequence[Sequence[int]]`): tokens of each utterance.
        durations_s (`Sequence[float]`): of each.
        chunk_ms (`int`): milliseconds of a unit.
        unit_tokens (`int`): places of a unit.

    Raises:
        ValueError: if there is none from which a transcriber could learn.
    """
    for tokens, duration_s in zip(transcripts, durations_s, strict=True):
        # Between two tokens that are the same stands a blank.
        needed = len(tokens) + sum(one == other for one, other in itertools.pairwise(tokens))
        if needed <= math.ceil(1000 * duration_s / chunk_ms) * unit_tokens:
            return
    raise ValueError(
        f"unit_tokens must be above {unit_tokens}, or chunk_ms below {chunk_ms}: no utterance has as many places as "
        "its transcript has tokens."
    )


def train_transcriber(
    model: Any,
    vocabulary: Sequence[int],
    dataset: Any,
    args: TrainingArguments,
    record: Mapping[str, Any],
    max_minutes: float | None = None,
) -> None:
    """Train encoder and projector of a model into `args.output_dir`; a run that was cut off goes on.

    Args:
        model (`SimulSpeechForCausalLM`): where training starts.
        vocabulary (`Sequence[int]`): ids that may be spoken.
        dataset: of examples as [`TranscriptCollator`] takes them.
        args (`TrainingArguments`): the Trainer's.
        record (`Mapping`): what decides the weights.
        max_minutes (`float`, *optional*): training ends after so long, in all runs together.
    """
    folder = Path(str(args.output_dir))
    transcriber = Transcriber(model, vocabulary)
    trainer = SimulTrainer(
        model=transcriber,
        args=args,
        data_collator=TranscriptCollator(vocabulary),
        train_dataset=dataset,
        max_minutes=max_minutes,
    )
    write_record(folder, record)
    trainer.train(resume_from_checkpoint=True)
    with plain_errors(folder):
        save_file({name: each.contiguous() for name, each in transcriber.state_dict().items()}, folder / WEIGHTS)
    write_text(folder / VOCABULARY, f"{[*vocabulary]}\n")
    limit = trainer.limit
    done = {
        "steps": trainer.state.global_step,
        "seconds": round(trainer.clock.seconds(), 3),
        "time_limit_minutes": limit.minutes if limit and limit.was_reached else None,
        "too_fast": transcriber.too_fast,
    }
    write_record(folder, record, done)


def load_hearing(model: Any, folder: Path) -> Transcriber:
    """Give a model the encoder and projector that [`train_transcriber`] trained.

    Args:
        model (`SimulSpeechForCausalLM`): of the same sizes.
        folder (`Path`): what was written.

    Returns:
        `Transcriber`: around the model.
    """
    transcriber = Transcriber(model, read_json(folder / VOCABULARY))
    transcriber.load_state_dict(load_file(folder / WEIGHTS))
    return transcriber


def transcripts(transcriber: Transcriber, processor: Any, utterances: Sequence[Utterance]) -> list[str]:
    """What is heard in each utterance.

    Args:
        transcriber (`Transcriber`): trained.
        processor (`SimulSpeechProcessor`): of its model.
        utterances (`Sequence[Utterance]`): of a split.
    """
    texts = []
    for utterance in utterances:
        tokens = (token for unit in processor.encode_audio(utterance_audio(utterance)) for token in unit)
        heard = transcriber.transcribe(source_features(tokens)["source_features"])
        texts.append(processor.tokenizer.decode(heard).strip())
    return texts


__all__ = ["Transcriber", "TranscriptCollator", "check_places", "load_hearing", "train_transcriber", "transcripts"]
