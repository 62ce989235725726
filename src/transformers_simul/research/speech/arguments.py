# SPDX-License-Identifier: Apache-2.0
"""The flags of the speech experiment."""

import math
from dataclasses import dataclass, field

from ...models.policies import Policy, WaitKPolicy
from ...training import training_policy


@dataclass
class SpeechArguments:
    """Where the speech is, what hears it, and at which k it is translated; k counts chunks, of the cascade words."""

    speech_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder laid out as MuST-C's. A split that is not there is spoken by espeak-ng from the pairs of "
            "--train_file and --test_file or of --dataset_name. Default: speech in --output_dir."
        },
    )
    train_split: str = field(default="train", metadata={"help": "Name of the split to train on."})
    test_split: str = field(default="test", metadata={"help": "Name of the split to translate."})
    noisy: float = field(default=0.5, metadata={"help": "Share of spoken recordings with noise."})
    voices: list[str] = field(
        default_factory=list, metadata={"help": "espeak-ng's voices, such as en-us+f2; 65 of English without."}
    )
    chunk_ms: int = field(default=320, metadata={"help": "Milliseconds of a source unit."})
    context_ms: int = field(default=640, metadata={"help": "Milliseconds before a unit that its embeddings know."})
    unit_tokens: int = field(default=4, metadata={"help": "Embeddings of a unit."})
    mel_bins: int = field(default=80, metadata={"help": "Mel bands of the encoder's features."})
    frame_ms: int = field(
        default=20, metadata={"help": "Milliseconds of a frame of the encoder; twice as many cost half as much."}
    )
    keep_features: bool = field(
        default=False, metadata={"help": "Keep the features of all training audio in memory: made once."}
    )
    transcription_steps: int = field(
        default=0,
        metadata={
            "help": "Steps in which encoder and projector first learn to transcribe (CTC), for both models. 0: none."
        },
    )
    transcription_learning_rate: float = field(
        default=1e-3, metadata={"help": "Of these steps, constant after --warmup_steps."}
    )
    transcription_minutes: float | None = field(
        default=None, metadata={"help": "They end after so long at the latest, in all runs together."}
    )
    encoder_size: int = field(default=256, metadata={"help": "Width of the encoder, Whisper's architecture."})
    encoder_layers: int = field(default=4, metadata={"help": "Its layers."})
    encoder_heads: int = field(default=4, metadata={"help": "Its attention heads."})
    eval_wait_k: list[int] = field(default_factory=lambda: [1, 3, 5, 7], metadata={"help": "k to translate with."})
    training_k: list[str] = field(
        default_factory=lambda: ["1", "3", "5", "7"], metadata={"help": "k's that SimulMask draws from per example."}
    )
    recogniser: str = field(
        default="tiny.en", metadata={"help": "Of the cascade, as in `listen`; 'none' leaves the cascade out."}
    )
    cascade_model: str | None = field(
        default=None, metadata={"help": "A trained folder that translates in the cascade; none is trained for it then."}
    )
    predict_batch_size: int = field(default=16, metadata={"help": "Utterances translated side by side."})
    flops_utterances: int = field(default=20, metadata={"help": "Utterances whose FLOPs are counted, one by one."})

    def __post_init__(self) -> None:
        for name in (
            "mel_bins", "encoder_size", "encoder_layers", "encoder_heads", "unit_tokens", "predict_batch_size",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.noisy <= 1:
            raise ValueError(f"noisy must be between 0 and 1, got {self.noisy}.")
        if self.context_ms < 0:
            raise ValueError(f"context_ms must be at least 0, got {self.context_ms}.")
        if self.cascade_model and self.recogniser == "none":
            raise ValueError(f"cascade_model needs a recogniser, got {self.cascade_model!r} and recogniser='none'.")
        if self.frame_ms < 2 or self.frame_ms % 2:
            raise ValueError(f"frame_ms must be even and at least 2, got {self.frame_ms}.")
        self._check_transcription()
        if self.flops_utterances < 2:
            raise ValueError(f"flops_utterances must be at least 2, for quartiles, got {self.flops_utterances}.")
        frame_ms = self.frame_ms
        if self.chunk_ms < 1 or self.chunk_ms % (frame_ms * self.unit_tokens) or self.context_ms % frame_ms:
            raise ValueError(
                f"chunk_ms must be a multiple of {frame_ms} ms times unit_tokens, and context_ms of {frame_ms} ms, got "
                f"{self.chunk_ms}, {self.context_ms} and unit_tokens={self.unit_tokens}."
            )
        if not self.eval_wait_k:
            raise ValueError("eval_wait_k must hold at least one k, got none.")
        for k in self.eval_wait_k:
            WaitKPolicy(k)
        self.training_policy()

    def _check_transcription(self) -> None:
        if self.transcription_steps < 0:
            raise ValueError(f"transcription_steps must be at least 0, got {self.transcription_steps}.")
        rate, minutes = self.transcription_learning_rate, self.transcription_minutes
        if not 0 <= rate < math.inf:
            raise ValueError(f"transcription_learning_rate must be at least 0 and finite, got {rate}.")
        if minutes is not None and not (minutes > 0 and self.transcription_steps):
            raise ValueError(
                f"transcription_minutes must be above 0, and needs --transcription_steps, got {minutes} and "
                f"{self.transcription_steps} steps."
            )

    @property
    def flops_k(self) -> int:
        """The k at which FLOPs are counted: the second, or the only one."""
        return self.eval_wait_k[min(1, len(self.eval_wait_k) - 1)]

    def training_policy(self) -> Policy:
        """The policy under which SimulMask is trained."""
        return training_policy(self.training_k)


__all__ = ["SpeechArguments"]
