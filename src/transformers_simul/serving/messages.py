# SPDX-License-Identifier: Apache-2.0
"""The messages of the protocol, version 1 (docs/protocol.md): what a client, a listener and the server may send.

Needs pydantic alone, so that a client can use it without the server's libraries.
"""

from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

PROTOCOL_VERSION = 1
# Characters of a text, words of a resumed sentence, and bytes of a message unless the server says otherwise.
MAX_TEXT, MAX_COMMITTED, MAX_MESSAGE_BYTES = 65_536, 4096, 65_536
MAX_TERMS = 2000

Name = Annotated[str, Field(min_length=1, max_length=200)]
RoomName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Language = Annotated[str, Field(min_length=1, max_length=64)]
Count = Annotated[int, Field(ge=0, le=2**53)]
ContextSentences = Annotated[
    int | None,
    Field(
        ge=0,
        le=1000,
        description="sentences that have ended and stay in view; what `/v1/models` says is the most, and the default",
    ),
]

AddPunctuation = Annotated[
    bool,
    Field(
        description="the source has neither punctuation nor capitals: the server adds them, at each `end_sentence` and "
        "where its segmenter finds the end of a sentence; each word comes one word later"
    ),
]

CopyNumbers = Annotated[
    bool, Field(description="prefer numbers as the source has them, as terms of the glossary that stay as they are")
]

ErrorCode = Literal[
    "bad_message",
    "bad_order",
    "bad_version",
    "bad_policy",
    "bad_option",
    "bad_resume",
    "unauthorized",
    "forbidden",
    "unknown_model",
    "message_too_big",
    "too_fast",
    "too_much_waiting",
    "too_many_streams",
    "full",
    "slow_reader",
    "idle_timeout",
    "total_timeout",
    "draining",
    "room_taken",
    "room_full",
    "not_found",
    "internal",
]
Action = Literal["fix", "retry", "resume"]
StopReason = Literal[
    "eos", "max_new_tokens", "max_tokens", "max_positions", "stopping_criteria", "cancelled", "timeout", "error"
]


class _FromClient(BaseModel):
    """An unknown field is an error: it is mistyped, or of another version."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _FromServer(BaseModel):
    """A client ignores fields that it does not know: a newer server may send more."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Options(_FromClient):
    """How to decode: fields of `generate()` that a client may set, each within the server's own bounds."""

    max_new_tokens: int | None = Field(default=None, ge=1, le=4096, description="of the stream, or of each sentence")
    do_sample: bool | None = None
    temperature: float | None = Field(default=None, gt=0, le=10)
    top_k: int | None = Field(default=None, ge=1, le=1_000_000)
    top_p: float | None = Field(default=None, gt=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    seed: int | None = Field(
        default=None, ge=0, le=2**63 - 1, description="of sampling; the same seed gives the same words"
    )


class Term(_FromClient):
    """An entry of a glossary: once the source term has been read, its target term is preferred."""

    source: str = Field(min_length=1, max_length=200, description="of one or more words")
    target: str = Field(min_length=1, max_length=200, description="the same as `source` for what is to be copied")
    target_lang: Language | None = Field(default=None, description="for this target language alone")


class CommittedWord(_FromClient):
    """A target word that was shown, as the server had sent it."""

    text: str = Field(max_length=2000)
    delay: Count = Field(description="source words of the whole stream that had been read")
    ids: list[Count] = Field(
        default_factory=list,
        max_length=512,
        description="its token ids; without them the text is tokenised, which may differ from what was written",
    )


class Context(_FromClient):
    """The newest `kept_sentences` sentences that have ended, so that those in view are what they were. After one whose
    `reason` was not `eos` they begin anew."""

    source_words: Count = Field(description="source words before the first of them")
    words: list[CommittedWord] = Field(max_length=MAX_COMMITTED, description="their target words, in order")


class TrackResume(_FromClient):
    """Where one target language of a stream goes on: at the beginning of a sentence, some words of which were shown."""

    target_lang: Language | None = Field(default=None, description="may be left out where there is one target language")
    source_words: Count = Field(default=0, description="source words before the unfinished sentence")
    target_words: Count = Field(default=0, description="target words before it")
    sentences: Count = Field(default=0, description="sentences before it")
    committed: list[CommittedWord] = Field(
        default_factory=list, max_length=MAX_COMMITTED, description="shown words of the unfinished sentence, in order"
    )
    context: Context | None = Field(default=None, description="of a stream that keeps sentences in view")


class Resume(_FromClient):
    """What was shown of a stream whose connection was lost. The source from `source_words` on is sent again."""

    source_words: Count = Field(default=0, description="source words before the first that is sent again")
    tracks: list[TrackResume] = Field(min_length=1, max_length=16)


class Start(_FromClient):
    """The first message on `/v1/stream`."""

    type: Literal["start"] = "start"
    version: int = PROTOCOL_VERSION
    token: str | None = Field(
        default=None, max_length=500, repr=False, description="where no Authorization header can be sent"
    )
    model: Name | None = Field(
        default=None, description="as in /v1/models; or choose by languages; or the server's first"
    )
    source_lang: Language | None = None
    target_langs: list[Language] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="several: each is translated by itself, by a model that knows it",
    )
    policy: Name | None = Field(
        default=None, description="such as \"wait-3\"; without, the server's or the model's own"
    )
    sentences: bool = Field(
        default=True, description="endless, sentence by sentence; False: all of the source is one row"
    )
    max_sentence_words: int | None = Field(
        default=None, ge=1, le=1000, description="where to end a sentence without an end"
    )
    context_sentences: ContextSentences = None
    add_punctuation: AddPunctuation = False
    options: Options = Options()
    glossary: list[Term] = Field(default_factory=list, max_length=MAX_TERMS, description="terms to prefer")
    copy_numbers: CopyNumbers = False
    glossary_strength: float | None = Field(default=None, gt=0, le=100, description="the bonus of a term, in nats")
    resume: Resume | None = None
    room: RoomName | None = Field(default=None, description="publish into this room")


class SourcePiece(_FromClient):
    """Source text as it arrives; a word is complete once white space, `end_sentence` or `end` follows."""

    type: Literal["source"] = "source"
    text: str = Field(max_length=MAX_TEXT)
    at_ms: float | None = Field(default=None, ge=0, description="when it arrived, on the client's clock")


class EndSentence(_FromClient):
    """A sentence is complete, with or without punctuation."""

    type: Literal["end_sentence"] = "end_sentence"


class End(_FromClient):
    """The source is complete; the rest of the translation follows, then `end`."""

    type: Literal["end"] = "end"


class Cancel(_FromClient):
    """Nobody wants the rest; `end` with the reason `cancelled` follows."""

    type: Literal["cancel"] = "cancel"


class Ping(_FromClient):
    """Answered by `pong`; keeps a silent stream from its idle time-out."""

    type: Literal["ping"] = "ping"
    id: Count = 0


class Listen(_FromClient):
    """The first message on `/v1/rooms/{room}/listen`; only `ping` may follow."""

    type: Literal["listen"] = "listen"
    version: int = PROTOCOL_VERSION
    token: str | None = Field(
        default=None, max_length=500, repr=False, description="where no Authorization header can be sent"
    )
    target_langs: list[Language] | None = Field(default=None, min_length=1, max_length=16, description="all without")
    after: dict[Language, Count] = Field(
        default_factory=dict, max_length=16, description="by language, how many target words are there already"
    )


class Limits(_FromServer):
    """What the server takes of one stream."""

    message_bytes: int
    words_per_second: float = Field(gt=0, description="of source, in the long run")
    burst_words: int = Field(description="of source at once")
    waiting_words: int = Field(description="most source words sent beyond the newest word's delay")
    idle_s: float
    total_s: float


class Started(_FromServer):
    """The stream has its places; source may come (it may also be sent before)."""

    type: Literal["started"] = "started"
    version: int = PROTOCOL_VERSION
    stream: str = Field(description="names the stream in the server's log")
    models: dict[str, str] = Field(description="by target language")
    source_lang: str
    target_langs: list[str]
    unit: Literal["word", "char", "token"] = Field(description="what `delay` and all counts of source words count")
    policy: str
    context_sentences: dict[str, int] = Field(
        default_factory=dict, description="by target language, sentences that have ended and stay in view"
    )
    kept_sentences: int = Field(
        default=0,
        ge=0,
        description="sentences that have ended, of which the client keeps source and words for `resume`",
    )
    limits: Limits


class WordMessage(_FromServer):
    """A committed target word: it is never revised."""

    type: Literal["word"] = "word"
    target_lang: str
    index: int = Field(description="from 0, over the whole stream, resumed parts included")
    text: str
    delay: int = Field(description="source words of the whole stream that had been read when it was written")
    elapsed_ms: float = Field(description="since the stream began on this server")
    read: list[str] = Field(default_factory=list, description="source words READ since the word before")
    source_at_ms: float | None = Field(default=None, description="`at_ms` of the last source word that had been read")
    ids: list[int] = Field(default_factory=list, description="token ids, for `resume`")


class SentenceEnd(_FromServer):
    """A sentence is translated. What is before it need not be kept for `resume`."""

    type: Literal["sentence_end"] = "sentence_end"
    target_lang: str
    sentences: int = Field(description="so far")
    source_words: int = Field(description="so far")
    target_words: int = Field(description="so far")
    read: list[str] = Field(default_factory=list, description="source words READ since its last word")
    reason: StopReason = "eos"


class Notice(_FromServer):
    """Something to know; the stream goes on."""

    type: Literal["warning"] = "warning"
    code: Literal["draining"]
    message: str
    seconds: float | None = Field(default=None, description="until it happens")


class Error(_FromServer):
    """The stream is over, by an error; the connection is closed after it.

    `action` says what to do: `fix` the request, `retry` later or elsewhere, or `resume` (here or elsewhere) with what
    was shown.
    """

    type: Literal["error"] = "error"
    code: ErrorCode
    message: str
    remedy: str
    action: Action
    retry_after_s: float | None = None


class TrackEnd(_FromServer):
    """How one target language ended."""

    target_lang: str
    reason: StopReason
    sentences: int
    source_words: int
    target_words: int


class Ended(_FromServer):
    """The stream is over; the connection is closed after it. `reason` is the first track's that is not `eos`."""

    type: Literal["end"] = "end"
    reason: StopReason
    tracks: list[TrackEnd]


class Pong(_FromServer):
    """The answer to `ping`."""

    type: Literal["pong"] = "pong"
    id: int = 0


class RoomState(_FromServer):
    """What a listener gets first, and whenever the room's state changes. After `ended` the connection is closed."""

    type: Literal["room"] = "room"
    version: int = PROTOCOL_VERSION
    room: str
    state: Literal["waiting", "live", "lost", "ended"] = Field(
        description="nobody has spoken yet; somebody speaks; the speaker's connection is lost and may come back; over"
    )
    source_lang: str | None = None
    target_langs: list[str] = Field(default_factory=list)
    unit: Literal["word", "char", "token"] | None = Field(default=None, description="spaces stand between words alone")
    first: dict[str, int] = Field(default_factory=dict, description="by language, index of the first word still kept")


class TranslateRequest(_FromClient):
    """The body of `POST /v1/translate`."""

    text: str = Field(max_length=MAX_TEXT)
    model: Name | None = None
    source_lang: Language | None = None
    target_lang: Language | None = None
    policy: Name | None = None
    sentences: bool = True
    max_sentence_words: int | None = Field(default=None, ge=1, le=1000)
    context_sentences: ContextSentences = None
    add_punctuation: AddPunctuation = False
    options: Options = Options()
    glossary: list[Term] = Field(default_factory=list, max_length=MAX_TERMS)
    copy_numbers: CopyNumbers = False
    glossary_strength: float | None = Field(default=None, gt=0, le=100)
    stream: bool = Field(default=False, description="answer with server-sent events")


class Translation(_FromServer):
    """The answer to `POST /v1/translate`."""

    text: str
    model: str
    source_lang: str
    target_lang: str
    reason: StopReason
    words: list[WordMessage]


def _one_of(*models: type[BaseModel]) -> TypeAdapter[Any]:
    union: Any = Annotated[Union[models], Field(discriminator="type")]  # noqa: UP007 - of a tuple
    return TypeAdapter(union)


# What may come in each direction; `validate_json` reads a message, `model_dump_json(exclude_none=True)` writes one.
CLIENT_MESSAGES = _one_of(Start, SourcePiece, EndSentence, End, Cancel, Ping)
SERVER_MESSAGES = _one_of(Started, WordMessage, SentenceEnd, Notice, Error, Ended, Pong)
LISTENER_MESSAGES = _one_of(Listen, Ping)
ROOM_MESSAGES = _one_of(RoomState, WordMessage, SentenceEnd, Error, Pong)

# How a WebSocket is closed after each `action`; 1000 follows `end`, 1009 a frame that is too big.
CLOSE_CODES: dict[str, int] = {"fix": 1008, "retry": 1013, "resume": 1012}


def what_is_wrong(error: ValidationError) -> str:
    """The first fault of a message, in a line.

    Args:
        error (`pydantic.ValidationError`): of one of the adapters above.

    Example:

    ```python
    >>> from pydantic import ValidationError
    >>> from transformers_simul.serving.messages import CLIENT_MESSAGES, what_is_wrong
    >>> try:
    ...     CLIENT_MESSAGES.validate_json('{"type": "source"}')
    ... except ValidationError as error:
    ...     print(what_is_wrong(error))
    source.text: Field required

    ```
    """
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    # A name of the message's own, such as an unknown field, is cut: it may be of any length.
    place = ".".join(str(part)[:40] for part in first["loc"])
    return f"{place}: {first['msg'][:300]}" if place else first["msg"][:300]


__all__ = [
    "CLIENT_MESSAGES",
    "CLOSE_CODES",
    "LISTENER_MESSAGES",
    "PROTOCOL_VERSION",
    "ROOM_MESSAGES",
    "SERVER_MESSAGES",
    "Cancel",
    "CommittedWord",
    "Context",
    "End",
    "EndSentence",
    "Ended",
    "Error",
    "Limits",
    "Listen",
    "Notice",
    "Options",
    "Ping",
    "Pong",
    "Resume",
    "RoomState",
    "SentenceEnd",
    "SourcePiece",
    "Start",
    "Started",
    "Term",
    "TrackEnd",
    "TrackResume",
    "TranslateRequest",
    "Translation",
    "WordMessage",
    "what_is_wrong",
]
