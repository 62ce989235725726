# SPDX-License-Identifier: Apache-2.0
"""`transformers-simul translate`: a file in batches, or what is typed word by word; either way sentence by sentence."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from ..models.policies import Policy, check_count
from ..text_files import read_lines, write_text
from .flags import add_glossary_flags, add_policy_flags, asked_policy, check_counts, check_output, chosen_glossary
from .keyboard import Terminal, key_by_key, typed_words, write
from .loading import add_decoding_weights, add_model, find_model, load, usual_policy

EXAMPLES = """
examples:
  transformers-simul translate models/simul-falcon-en-de                       # type; words come out while you do
  transformers-simul translate models/simul-falcon-en-de --wait-k 1 --show-delays < news.en
  transformers-simul translate models/simul-falcon-en-de news.en --output news.de
  transformers-simul translate models/simul-falcon-en-de news.en --references news.de --json > instances.log
  transformers-simul translate models/simul-falcon-en-de news.en --wait-k full --whole-lines
  transformers-simul translate models/simul-falcon-en-de news.en --glossary terms.tsv
  transformers-simul translate models/simul-falcon-en-de news.en --policy confidence:0.6,min=1,max=7
"""
# Tokens that a sentence from standard input may have with its prompt and its translation.
_MAX_TOKENS = 2048


def add_command(commands: Any) -> None:
    """Add the command and its flags to the parser."""
    parser = commands.add_parser(
        "translate",
        help="translate a file, or standard input while you type",
        description="Translate a file in batches, or stdin word by word while it arrives: line by line, and in a line "
        "sentence by sentence.",
        epilog=EXAMPLES,
    )
    add_model(parser)
    add_decoding_weights(parser)
    parser.add_argument("file", nargs="?", help="text file (standard input; from a terminal, key by key)")
    add_policy_flags(parser)
    parser.add_argument(
        "--show-delays", action="store_true", help="print a line per word: source words read, milliseconds, word"
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON lines: SimulEval's log for a file, words for stdin"
    )
    parser.add_argument("--references", help="file with one reference per line, for `score`; needs --json and a file")
    parser.add_argument("--output", help="file to write instead of stdout, whole or not at all; needs a file to read")
    parser.add_argument(
        "--batch-size", type=int, default=16, help="sentences of a file that are translated at once (16)"
    )
    parser.add_argument("--source-lang", help="source language, for a model that knows several")
    parser.add_argument("--target-lang", help="target language, for a model that knows several")
    add_glossary_flags(parser)
    parser.add_argument(
        "--segmenter", help="file of `segmenter`, for text without punctuation: writes capitals and full stops"
    )
    parser.add_argument("--whole-lines", action="store_true", help="treat every line as one sentence")
    parser.add_argument(
        "--context-sentences",
        type=int,
        help="sentences that have ended and stay in view, for a model that was trained so; a file is then one "
        "document, translated line by line (0; of what is typed, within a line, what the model says)",
    )
    parser.add_argument("--max-sentence-words", type=int, default=100, help="end a sentence after so many words (100)")
    parser.set_defaults(run=_translate)


def _translate(args: argparse.Namespace) -> int:
    policy = asked_policy(args)
    check_counts(args, "batch_size", "max_sentence_words")
    if args.context_sentences is not None:
        check_count("context-sentences", args.context_sentences, least=0)
        if args.whole_lines:
            raise ValueError("context-sentences must not stand beside whole-lines, whose lines stand alone.")
    for name in ("output", "references"):
        if getattr(args, name) and (not args.file or args.show_delays):
            raise ValueError(f"{name} needs a file to translate, and no show-delays: what streams goes to stdout.")
    if args.references and not args.json:
        raise ValueError(f"references need json, whose log holds them, got {args.references!r}.")
    # Before the model is loaded: a wrong file should cost nothing.
    args.terms = chosen_glossary(args)
    args.segments = _read_segmenter(args) if args.segmenter else None
    find_model(args.model)
    sources = _read_sources(args.file, keeps_blank=not args.json or args.show_delays) if args.file else []
    references = read_lines(args.references) if args.references else [""] * len(sources)
    if len(references) != len(sources):
        raise ValueError(f"references must hold one line per sentence, {len(sources)}, got {len(references)}.")
    blank = [number for number, line in enumerate(references, start=1) if not line.strip()]
    if args.references and blank:
        raise ValueError(f"references must hold a sentence in every line, but line {blank[0]} is empty.")
    if args.output:
        check_output("output", args.output)
    if args.show_delays or not args.file:
        _translate_live(args, policy, _words_of(sources) if args.file else None)
        return 0
    text = _translate_file(args, policy, sources, references)
    if args.output:
        write_text(args.output, text)
        print(f"written: {args.output}", file=sys.stderr)
    else:
        write(text)
    return 0


def _read_segmenter(args: argparse.Namespace) -> Any:
    from ..streaming.segmenter import Segmenter

    if args.whole_lines:
        raise ValueError("segmenter must not stand beside whole-lines, whose lines are sentences.")
    return Segmenter.load(args.segmenter)


def _read_sources(file: str, keeps_blank: bool) -> list[str]:
    """A file's lines. Those without words stay what they are, but have no place in a log."""
    sources = read_lines(file)
    blank = [number for number, line in enumerate(sources, start=1) if not line.strip()]
    if len(blank) == len(sources):
        raise ValueError(f"file {file!r} must hold at least one sentence.")
    if blank and not keeps_blank:
        raise ValueError(f"file {file!r} must hold a sentence in every line for json, but line {blank[0]} is empty.")
    return sources


def _load(args: argparse.Namespace, asked: Policy | None) -> tuple[Any, Any, Policy]:
    """Model, processor and policy. More context than the model was trained with is allowed, and warned of."""
    model, processor = load(args.model, args.trust_remote_code, decoding_weights=args.decoding_weights)
    from ..models.configuration_generation import SimulGenerationConfig

    trained = SimulGenerationConfig.of(model.generation_config).context_sentences or 0
    if (args.context_sentences or 0) > trained:
        print(
            f"warning: {args.model} was trained with context_sentences={trained}, got {args.context_sentences}: "
            "translations may be far worse.",
            file=sys.stderr,
        )
    policy = usual_policy(model) if asked is None else asked
    return model, processor.with_languages(args.source_lang, args.target_lang), policy


def _translate_file(args: argparse.Namespace, asked: Policy | None, lines: list[str], references: list[str]) -> str:
    model, processor, policy = _load(args, asked)
    # Lines without words stay as many, where they are.
    places = [place for place, line in enumerate(lines) if line.strip()]
    sources, references = [lines[place] for place in places], [references[place] for place in places]
    from ..evaluation.decode import translate_corpus
    from ..evaluation.documents import translate_documents
    from ..evaluation.instances import instance_line
    from ..evaluation.lines import translate_lines

    if args.segments is not None:
        words = _written_anew(_words_of(sources), args, processor.source_lang)
        # None ends each line.
        sources = [" ".join(iter(words.__next__, None)) for _ in sources]
    if args.whole_lines:
        log = translate_corpus(model, processor, sources, references, policy, args.batch_size, glossary=args.terms)
    else:
        if args.context_sentences:
            settings = {"max_sentence_words": args.max_sentence_words, "glossary": args.terms}
            found, cut = translate_documents(
                model, processor, [sources], policy, args.context_sentences, 1, _MAX_TOKENS, **settings
            )
            log = [replace(each, reference=text) for each, text in zip(found[0], references, strict=True)]
        else:
            log, cut = translate_lines(
                model, processor, sources, references, policy, args.batch_size, args.max_sentence_words,
                glossary=args.terms,
            )  # fmt: skip
        for index in cut:
            _warn(places[index] + 1, "max_new_tokens")
    if args.json:
        return "".join(map(instance_line, log))
    written = dict(zip(places, (each.prediction for each in log), strict=True))
    return "".join(f"{written.get(place, '')}\n" for place in range(len(lines)))


def _translate_live(args: argparse.Namespace, asked: Policy | None, words: Iterable[str | None] | None) -> None:
    """Load the model and print the translation of words as they arrive; None ends a line. Without `words`, those of
    standard input, from a terminal key by key."""
    # Where there is no termios, the system's terminal gives whole lines.
    is_typed = words is None and sys.stdin.isatty() and find_spec("termios") is not None
    if is_typed:
        print(f"loading {args.model}", file=sys.stderr, flush=True)
    model, processor, policy = _load(args, asked)
    from ..streaming.engine import StreamEngine

    show: Callable[[str], None] = write
    with ExitStack() as stack:
        engine = stack.enter_context(StreamEngine(model, processor, max_streams=1, max_tokens=_MAX_TOKENS))
        if words is None:
            terminal = Terminal(sys.stdout if sys.stdout.isatty() else sys.stderr) if is_typed else None
            if is_typed:
                # First: what is typed once the program says that it is ready is read key by key.
                stack.enter_context(key_by_key(sys.stdin.fileno()))
                print(_READY, file=sys.stderr, flush=True)
                show = terminal.write if terminal and sys.stdout.isatty() else write
            words = typed_words(sys.stdin.fileno(), terminal)
        if args.segments is not None:
            words = _written_anew(words, args, processor.source_lang)
        _stream(engine, policy, words, args, show)


_READY = "ready: words come out while you type; Enter ends a text, Ctrl-D the program"


def _stream(
    engine: Any, policy: Policy, words: Iterable[str | None], args: argparse.Namespace, write: Callable[[str], None]
) -> None:
    """Each line of words as it comes, None ending a line; a line without words stays one."""
    number, stream, shown = 1, None, Future[None]()
    with ThreadPoolExecutor(max_workers=1) as pool:
        try:
            for word in words:
                if word is not None:
                    if stream is None:
                        stream = _open(engine, policy, args)
                        shown = pool.submit(_show, engine.processor, stream, number, args, write)
                    _put(stream, word, shown)
                    continue
                if stream is not None:
                    stream.source.end()
                    shown.result()
                if not args.json:
                    write("\n")
                if stream is not None and stream.stop_reason != "eos":
                    _warn(number, stream.stop_reason)
                number, stream = number + 1, None
        finally:
            # Whatever ended the input, nobody waits for the rest of its last line.
            if stream is not None:
                stream.source.cancel()


def _open(engine: Any, policy: Policy, args: argparse.Namespace) -> Any:
    from ..models.streams import SourceStream

    source = SourceStream(unit=engine.processor.unit, max_waiting=engine.max_waiting)
    if args.whole_lines:
        return engine.open(policy, source, wait_s=60, glossary=args.terms)
    return engine.open(
        policy,
        source,
        sentences=True,
        max_sentence_words=args.max_sentence_words,
        context_sentences=args.context_sentences,
        wait_s=60,
        glossary=args.terms,
    )


def _put(stream: Any, word: str, shown: Future) -> None:
    """Give the stream a word, once there is room for it; not to one that has stopped."""
    # A word is complete when white space follows it; characters need none between them.
    text = word if stream.source.unit == "char" else f"{word} "
    while not shown.done() and not stream.source.is_cancelled:
        try:
            stream.source.put(text)
        except BufferError:
            time.sleep(0.02)
        except ValueError:
            # It may have stopped since.
            if not stream.source.is_cancelled:
                raise
        else:
            return
    if shown.done():
        # What went wrong, if something did.
        shown.result()


def _show(processor: Any, stream: Any, number: int, args: argparse.Namespace, write: Callable[[str], None]) -> None:
    """Print a line's words as they are written."""
    for index, word in enumerate(stream.words):
        if args.json:
            write(json.dumps({"line": number, **word._asdict()}, ensure_ascii=False) + "\n")
        elif args.show_delays:
            write(f"{word.delay}\t{word.elapsed_ms:.0f}\t{word.text}\n")
        else:
            write(processor.join(["", word.text] if index else [word.text]))


def _warn(number: int, stop_reason: str) -> None:
    print(
        f"line {number}: a translation was cut off ({stop_reason}); the rest of its sentence is not translated",
        file=sys.stderr,
    )


def _written_anew(words: Iterable[str | None], args: argparse.Namespace, language: str) -> Iterator[Any]:
    """The same words with capitals and full stops, each one word later; None still ends a line."""
    from ..speech.recogniser import SpokenWord
    from ..speech.writing import SentenceWriter

    writer = SentenceWriter(language, args.max_sentence_words, args.segments)
    for word in words:
        spoken = [] if word is None else [SpokenWord(word, 0.0, 0.0)]
        yield from (each.text for each in writer.write(spoken, is_last=word is None))
        if word is None:
            yield None


def _words_of(sources: Iterable[str]) -> Iterator[str | None]:
    from ..models.text import split_words

    for source in sources:
        yield from split_words(source)
        yield None


__all__ = ["add_command"]
