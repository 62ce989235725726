# SPDX-License-Identifier: Apache-2.0
"""A client of `transformers-simul serve`, for asyncio."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from ..messages import Listen, RoomName, Start, what_is_wrong
from .connection import Line
from .room import RoomListener
from .stream import ClientStream


class SimulClient:
    """A client of `transformers-simul serve`, which reconnects and resumes by itself.

    If a connection is lost, or its server, it sends the source of the unfinished sentence and the words that were shown
    to the next server, which goes on with them: each word comes once, and none that was shown changes.

    Args:
        *urls (`str`): addresses of servers with the same models, such as `"http://127.0.0.1:8000"`; each attempt takes
            the next.
        token (`str`, *optional*): that the servers ask for.
        give_up_s (`float`, *optional*): how long to try to get a lost connection back.
        on_lost (`Callable[[Exception], None]`, *optional*): called whenever a connection is lost.

    Raises:
        ValueError: for an address, a token or a time that is none.

    Example:

    ```python
    async with SimulClient("http://127.0.0.1:8000").open(policy="wait-3") as stream:
        await stream.put("A dog runs over the meadow. ")
        await stream.end()
        async for word in stream:
            print(word.text, "after", word.delay, "source words")
    ```
    """

    def __init__(
        self,
        *urls: str,
        token: str | None = None,
        give_up_s: float = 120.0,
        on_lost: Callable[[Exception], None] | None = None,
    ):
        self._line = Line(urls, token, give_up_s, on_lost)

    def open(
        self,
        *,
        model: str | None = None,
        policy: str | None = None,
        source_lang: str | None = None,
        target_langs: Sequence[str] | None = None,
        sentences: bool = True,
        max_sentence_words: int | None = None,
        context_sentences: int | None = None,
        add_punctuation: bool = False,
        options: dict[str, Any] | None = None,
        glossary: Mapping[str, str] | Sequence[dict[str, Any]] = (),
        copy_numbers: bool = False,
        glossary_strength: float | None = None,
        room: str | None = None,
        wait_s: float = 0.0,
    ) -> ClientStream:
        """Return a stream, which `async with` opens.

        Args:
            model, source_lang, target_langs (*optional*): what translates: a name of `/v1/models`, or languages, or the
                server's first model.
            policy (`str`, *optional*): by name (docs/policies.md); the server's own without.
            sentences (`bool`, *optional*): whether the source is endless, and translated sentence by sentence.
            max_sentence_words (`int`, *optional*): where a sentence without an end is cut.
            context_sentences (`int`, *optional*): how many sentences that have ended stay in view, of a model that was
                trained so; the model's own number without.
            add_punctuation (`bool`, *optional*): whether the source has neither punctuation nor capitals, and the
                server should add them: at each `end_sentence`, and where its segmenter finds the end of a sentence.
            options (`dict`, *optional*): fields of `generate()`: `max_new_tokens`, `do_sample`, `temperature`, `top_k`,
                `top_p`, `repetition_penalty`, `seed`.
            glossary (`Mapping[str, str]` or `Sequence[dict]`, *optional*): the target term of each source term, or
                entries with `source`, `target` and, of several target languages, `target_lang`.
            copy_numbers (`bool`, *optional*): whether numbers of the source are terms that stay as they are.
            glossary_strength (`float`, *optional*): the bonus of a term, in nats; the server's own without.
            room (`str`, *optional*): publish into this room.
            wait_s (`float`, *optional*): how long to wait for a server and for a place; a refusal is raised at once
                without.

        Raises:
            ValueError: for what no server would take; opening it raises [`ServerError`] for what this one does not.
        """
        if isinstance(target_langs, str):
            raise ValueError(f"target_langs must be a list of languages, got {target_langs!r}.")
        if isinstance(glossary, Mapping):
            glossary = [{"source": source, "target": target} for source, target in glossary.items()]
        fields = {
            "model": model,
            "policy": policy,
            "source_lang": source_lang,
            "target_langs": None if target_langs is None else list(target_langs),
            "sentences": sentences,
            "max_sentence_words": max_sentence_words,
            "context_sentences": context_sentences,
            "add_punctuation": add_punctuation,
            "options": options or {},
            "glossary": list(glossary),
            "copy_numbers": copy_numbers,
            "glossary_strength": glossary_strength,
            "room": room,
        }
        return ClientStream(self._line, _made(Start, fields), _checked(wait_s))

    def listen(self, room: str, target_langs: Sequence[str] | None = None, *, wait_s: float = 0.0) -> RoomListener:
        """Return a listener of a room, which `async with` connects; also before anybody speaks there.

        Args:
            room (`str`): its name.
            target_langs (`Sequence[str]`, *optional*): of these; all without.
            wait_s (`float`, *optional*): how long to wait for a server.

        Raises:
            ValueError: for what no server would take.
        """
        if isinstance(target_langs, str):
            raise ValueError(f"target_langs must be a list of languages, got {target_langs!r}.")
        listen = _made(Listen, {"target_langs": None if target_langs is None else list(target_langs)})
        # A room's name goes into an address.
        _made(_Room, {"room": room})
        return RoomListener(self._line, room, listen, _checked(wait_s))


class _Room(BaseModel):
    room: RoomName


def _made(kind: type[Any], fields: dict[str, Any]) -> Any:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise ValueError(what_is_wrong(error)) from None


def _checked(wait_s: float) -> float:
    if not wait_s >= 0:
        raise ValueError(f"wait_s must be at least 0, got {wait_s}.")
    return wait_s


__all__ = ["SimulClient"]
