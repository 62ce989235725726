# SPDX-License-Identifier: Apache-2.0
"""`transformers-simul corpus`: download sentence pairs and write them as text files."""

import argparse
import sys
from pathlib import Path
from typing import Any

from ..text_files import write_text
from .flags import check_folder

EXAMPLES = """
examples:
  transformers-simul corpus home_assistant en de data/
  transformers-simul corpus libreoffice en fr data/
  transformers-simul corpus wesnoth en it data/
  transformers-simul corpus IWSLT/iwslt2017 en de data/ --config iwslt2017-en-de --revision REVISION
"""


def add_command(commands: Any) -> None:
    """Add the command and its flags to the parser."""
    parser = commands.add_parser(
        "corpus",
        help="download sentence pairs: train.en, train.de, validation.en, ...",
        description="Download sentence pairs, split them, and write a text file per split and language.",
        epilog=EXAMPLES,
    )
    parser.add_argument("name", help="home_assistant, libreoffice, wesnoth, or a Hub data set with 'translation'")
    parser.add_argument("source_lang", help="language code, such as en")
    parser.add_argument("target_lang", help="language code, such as de")
    parser.add_argument("folder", help="folder to write; files in it are replaced")
    parser.add_argument("--config", help="configuration of a Hub data set")
    parser.add_argument("--revision", help="commit or tag of a Hub data set, so that it cannot change")
    parser.set_defaults(run=_corpus)


def _corpus(args: argparse.Namespace) -> int:
    from ..corpora import check_corpus_name

    # Before anything heavy is imported, and long before a hub is asked.
    check_corpus_name(args.name)
    check_folder("folder", args.folder)
    from ..training import DataArguments, load_pairs

    splits = load_pairs(
        DataArguments(
            dataset_name=args.name,
            dataset_config_name=args.config,
            dataset_revision=args.revision,
            source_lang=args.source_lang,
            target_lang=args.target_lang,
        )
    )
    for name, pairs in splits.items():
        if not pairs:
            continue
        for side, language in (("source", args.source_lang), ("target", args.target_lang)):
            path = Path(args.folder) / f"{name}.{language}"
            # A line feed inside a sentence would shift every later line.
            write_text(path, "".join(getattr(pair, side).replace("\n", " ") + "\n" for pair in pairs))
        print(f"{name}: {len(pairs)} pairs", file=sys.stderr)
    return 0


__all__ = ["add_command"]
