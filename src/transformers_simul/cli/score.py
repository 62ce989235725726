# SPDX-License-Identifier: Apache-2.0
"""`transformers-simul score`: latency and quality of a log."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..text_files import read_json, read_lines
from .longform import chosen_scorer

# All are drawn at once: more would fill the memory and sharpen nothing.
MOST_RESAMPLES = 100_000
EXAMPLES = """
examples:
  transformers-simul score logs/k=3/instances.log
  transformers-simul score logs/k=3/instances.log --json --words-per-second 2.5
  transformers-simul score run.jsonl --sources test.en --references test.de --words-per-second 2
  transformers-simul score talks.log --segments tst-COMMON.yaml --references tst-COMMON.de
  transformers-simul score instances.log --unit spm --spm-model target.model --tokenize zh
  transformers-simul score instances.log --neural-inputs comet/   # then comet-score, and
  transformers-simul score instances.log --neural-scores comet/scores.json
"""


def add_command(commands: Any) -> None:
    """Add the command and its flags to the parser."""
    parser = commands.add_parser(
        "score",
        help="print latency and quality of a log",
        description="AL, LAAL, AP, DAL, ATD of a log, and BLEU, chrF, chrF++, TER where it has references.",
        epilog=EXAMPLES,
    )
    parser.add_argument("log", help="SimulEval's instances.log, or OmniSTEval's or simulstream's JSON lines")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--unit", choices=("word", "char", "spm"), default="word", help="unit in which latency counts the target (word)"
    )
    parser.add_argument("--spm-model", help="SentencePiece model file for --unit spm")
    parser.add_argument(
        "--words-per-second", type=float, help="rate of the source; adds computation-aware latency: AL_CA, LAAL_CA, ..."
    )
    parser.add_argument("--tokenize", help="tokeniser for BLEU, as sacreBLEU names it (13a)")
    parser.add_argument("--sources", help="text file with one source sentence per line, for logs without sources")
    parser.add_argument("--references", help="text file with one reference per line; replaces the log's references")
    parser.add_argument(
        "--segments", metavar="FILE", help="MuST-C's YAML: score long recordings segment by segment; needs --references"
    )
    parser.add_argument("--lang", help="with --segments: code for Moses' tokeniser, to align by (words)")
    parser.add_argument(
        "--bootstrap", type=int, default=1000, help="number of bootstrap resamples for the intervals (1000)"
    )
    parser.add_argument(
        "--neural-inputs", metavar="FOLDER", help="folder to write the input files of a neural metric to"
    )
    parser.add_argument("--neural-scores", metavar="FILE", help="file to read the neural metric's scores from")
    parser.add_argument("--neural-name", default="COMET", help="name of the neural metric (COMET)")
    parser.set_defaults(run=_score)


def _score(args: argparse.Namespace) -> int:
    # Here, not above: the program must answer --help at once.
    from ..evaluation.latency import check_rate
    from ..evaluation.logs import read_log
    from ..evaluation.neural import read_neural_scores, write_neural_inputs

    if args.words_per_second is not None:
        check_rate(args.words_per_second)
    if not 1 <= args.bootstrap <= MOST_RESAMPLES:
        raise ValueError(f"bootstrap must be at least 1 and at most {MOST_RESAMPLES}, got {args.bootstrap}.")
    # With segments their scorer reads the references: a pipe can be read only once.
    references = read_lines(args.references) if args.references and not args.segments else []
    sources = read_lines(args.sources) if args.sources else []
    instances = read_log(args.log, args.words_per_second, sources, references, bool(args.segments))
    if not instances:
        raise ValueError(f"log {args.log!r} must hold at least one sentence.")
    if references:
        instances = _with_references(instances, references)
    line = _line(args, instances)
    scores = list(line.quality)
    if args.neural_inputs:
        for path in write_neural_inputs(args.neural_inputs, instances):
            print(f"written: {path}", file=sys.stderr)
    if args.neural_scores:
        scores.append(read_neural_scores(args.neural_scores, instances, args.neural_name))
    if args.json:
        print(json.dumps(line.latency | {each.name: each.score for each in scores}))
        return 0
    print("; ".join([f"{line.sentences} sentences", *line.remarks]))
    for name, value in line.latency.items():
        print(f"{name:<8} {value:8.3f}   {line.signature}")
    for each in scores:
        print(f"{each.name:<8} {each.score:8.3f}   {each.signature}   95%: {each.low:.1f} to {each.high:.1f}")
    return 0


def _line(args: argparse.Namespace, instances: list) -> Any:
    from ..evaluation.quality import QUALITY
    from ..evaluation.report import report_line

    settings = Path(args.log).with_name("settings.json")
    common: dict[str, Any] = {
        "resamples": args.bootstrap,
        "metrics": QUALITY,
        "tokenize": args.tokenize,
        "settings": read_json(settings) if settings.is_file() else None,
    }
    if args.segments:
        return _longform(args, instances, common)
    return report_line(
        Path(args.log).name,
        instances,
        unit=args.unit,
        spm_model=_load_spm(args.spm_model) if args.spm_model else None,
        words_per_second=args.words_per_second,
        **common,
    )


def _longform(args: argparse.Namespace, instances: list, common: dict[str, Any]) -> Any:
    """Score long recordings segment by segment."""
    for name in ("words_per_second", "spm_model", "neural_inputs", "neural_scores"):
        if getattr(args, name):
            raise ValueError(f"segments must not stand beside {name.replace('_', '-')}.")
    return chosen_scorer(args)(Path(args.log).name, instances, **common)


def _with_references(instances: list, references: Sequence[str]) -> list:
    if len(references) != len(instances):
        raise ValueError(f"references must hold one line per sentence, {len(instances)}, got {len(references)}.")
    return [replace(each, reference=text) for each, text in zip(instances, references, strict=True)]


def _load_spm(path: str) -> Any:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise ValueError("unit spm needs the package sentencepiece: pip install sentencepiece") from error
    try:
        return SentencePieceProcessor(model_file=path)
    except RuntimeError as error:
        raise ValueError(f"spm-model {path!r} must be a SentencePiece model: {error}.") from error


__all__ = ["add_command"]
