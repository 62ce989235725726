# SPDX-License-Identifier: Apache-2.0
"""`transformers-simul translate`: a file sentence by sentence, or what is typed word by word."""

import argparse
import codecs
import json
import os
import queue
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..models.text import split_words
from ..text_files import read_lines, write_text
from .loading import load

EXAMPLES = """
examples:
  transformers-simul translate output/demo                       # type; every line is a sentence of its own
  transformers-simul translate output/demo --wait-k 1 --show-delays < news.en
  transformers-simul translate output/demo news.en --output news.de
  transformers-simul translate output/demo news.en --references news.de --json > instances.log
  transformers-simul translate output/demo news.en --wait-k full
"""


def add_command(commands: Any) -> None:
    """Its flags."""
    parser = commands.add_parser(
        "translate",
        help="translate a file, or stdin while it is typed",
        description="Translate a file in batches, or stdin word by word while it arrives.",
        epilog=EXAMPLES,
    )
    parser.add_argument("model", help="a trained folder, such as output/demo, or a name on the hub")
    parser.add_argument("file", nargs="?", help="one sentence a line; stdin, as it is typed or piped, without")
    parser.add_argument("--wait-k", default="3", help="source words read ahead, or 'full' (3)")
    parser.add_argument("--show-delays", action="store_true", help="a line per word: words read, milliseconds, word")
    parser.add_argument("--json", action="store_true", help="JSON lines: of a file SimulEval's log, of stdin words")
    parser.add_argument("--references", help="with --json and a file: one a line, for `score`")
    parser.add_argument("--output", help="file to write instead of stdout, whole or not at all; needs a file to read")
    parser.add_argument("--batch-size", type=int, default=16, help="sentences of a file side by side (16)")
    parser.set_defaults(run=_translate)


def _translate(args: argparse.Namespace) -> int:
    from ..training import training_policy

    policy = training_policy([args.wait_k])
    if args.batch_size < 1:
        raise ValueError(f"batch-size must be at least 1, got {args.batch_size}.")
    for name in ("output", "references"):
        if getattr(args, name) and (not args.file or args.show_delays):
            raise ValueError(f"{name} needs a file to translate, and no show-delays: what streams goes to stdout.")
    if args.references and not args.json:
        raise ValueError(f"references need json, whose log holds them, got {args.references!r}.")
    # Before the model is loaded: a wrong file should cost nothing.
    sources = _read_sources(args.file) if args.file else []
    references = read_lines(args.references) if args.references else [""] * len(sources)
    if len(references) != len(sources):
        raise ValueError(f"references must be one a sentence, {len(sources)}, got {len(references)}.")
    model, processor = load(args.model)
    if args.show_delays or not args.file:
        words = _words_of(sources) if args.file else typed_words(sys.stdin.fileno())
        _stream(model, processor, policy, words, args)
        return 0
    text = _translate_lines(model, processor, policy, sources, references, args)
    if args.output:
        write_text(args.output, text)
        print(f"written: {args.output}", file=sys.stderr)
    else:
        sys.stdout.write(text)
    return 0


def _read_sources(file: str) -> list[str]:
    sources = read_lines(file)
    if not sources:
        raise ValueError(f"file {file!r} must hold at least one sentence.")
    for number, line in enumerate(sources, start=1):
        if not line.strip():
            raise ValueError(f"file {file!r} must hold a sentence in every line, but line {number} is empty.")
    return sources


def _translate_lines(model, processor, policy, sources, references, args) -> str:
    from ..evaluation.decode import translate_corpus
    from ..evaluation.instances import instance_line

    log = translate_corpus(model, processor, sources, references, policy, args.batch_size)
    return "".join(instance_line(each) if args.json else f"{each.prediction}\n" for each in log)


def _stream(model, processor, policy, words: Iterable[str | None], args) -> None:
    """Each line of words as it comes, None ending a line; a line without words stays one."""
    from ..streaming.translate import translate_stream

    def show(number: int, arrived: queue.SimpleQueue) -> None:
        for index, word in enumerate(translate_stream(model, processor, iter(arrived.get, None), policy)):
            if args.json:
                text = json.dumps({"line": number, **word._asdict()}, ensure_ascii=False) + "\n"
            elif args.show_delays:
                text = f"{word.delay}\t{word.elapsed_ms:.0f}\t{word.text}\n"
            else:
                text = processor.join(["", word.text] if index else [word.text])
            print(text, end="", flush=True)

    number, arrived, shown = 1, queue.SimpleQueue[str | None](), None
    with ThreadPoolExecutor(max_workers=1) as pool:
        try:
            for word in words:
                if word is not None and shown is None:
                    shown = pool.submit(show, number, arrived)
                if shown is not None:
                    arrived.put(word)
                if word is None:
                    if shown is not None:
                        shown.result()
                    if not args.json:
                        print(flush=True)
                    number, shown = number + 1, None
        finally:
            # Whatever ended the input, the translation of its last line ends too.
            arrived.put(None)


def _words_of(sources: Iterable[str]) -> Iterator[str | None]:
    for source in sources:
        yield from split_words(source)
        yield None


def typed_words(descriptor: int) -> Iterator[str | None]:
    """Words of a terminal or pipe, each as soon as white space follows it; None ends a line.

    Args:
        descriptor (`int`): of a file open for reading.

    Raises:
        ValueError: if the text is not UTF-8.

    Example:

    ```python
    >>> import os
    >>> from transformers_simul.cli.translate import typed_words
    >>> reader, writer = os.pipe()
    >>> _ = os.write(writer, "Ein  Hund\\nläuft".encode())
    >>> os.close(writer)
    >>> list(typed_words(reader))
    ['Ein', 'Hund', None, 'läuft', None]

    ```
    """
    decoder, word, is_open = codecs.getincrementaldecoder("utf-8")(), "", False
    while True:
        data = os.read(descriptor, 65536)
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise ValueError(f"stdin must be UTF-8: {error}.") from error
        # Not all white space: no-break spaces stay inside a word.
        for char in text or "\n" * (not data and (is_open or bool(word))):
            if char not in " \t\r\n":
                word += char
                continue
            if word:
                yield word
            word, is_open = "", char != "\n"
            if not is_open:
                yield None
        if not data:
            return


__all__ = ["add_command", "typed_words"]
