# SPDX-License-Identifier: Apache-2.0
"""What the commands' flags have in common; nothing here loads torch."""

import argparse
import importlib.util
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..models.policies import OfflinePolicy, Policy, WaitKPolicy


class CommandParser(argparse.ArgumentParser):
    """A command's parser: its examples stay a line each, and `--wait_k` is `--wait-k`, as in the training programs."""

    def __init__(self, **options: Any):
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter} | options)

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        # What is typed gets hyphens before it is looked up: a flag named with underscores would never be found.
        return super().add_argument(*hyphenated(names), **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        return super().parse_known_args(hyphenated(sys.argv[1:] if args is None else args), namespace)


def hyphenated(arguments: Sequence[str]) -> list[str]:
    """The same arguments with `-` for `_` in the names of flags; values stay as they are.

    Args:
        arguments (`Sequence[str]`): of a command line.

    Example:

    ```python
    >>> from transformers_simul.cli.flags import hyphenated
    >>> hyphenated(["my_text", "--wait_k", "3", "--output=my_file", "--", "--a_b"])
    ['my_text', '--wait-k', '3', '--output=my_file', '--', '--a_b']

    ```
    """
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    changed = []
    for argument in arguments[:end]:
        name, equals, value = argument.partition("=")
        changed.append(f"{name.replace('_', '-')}{equals}{value}" if name.startswith("--") else argument)
    return [*changed, *arguments[end:]]


def add_policy_flags(parser: argparse.ArgumentParser, wait_k: str | None = None) -> None:
    """Add `--wait-k`, and `--policy` as its alternative, to a parser.

    Args:
        parser (`argparse.ArgumentParser`): of a command.
        wait_k (`str`, *optional*): what `--wait-k` is unless told; without it, MODEL says it: see [`asked_policy`].
    """
    usual = wait_k or "what MODEL names, or 3"
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--wait-k",
        default=wait_k,
        help=f"source words to read before the first target word, or 'full' for all ({usual})",
    )
    either.add_argument("--policy", help="another policy, such as confidence:0.6,min=1,max=7 (docs/policies.md)")


def chosen_policy(args: argparse.Namespace) -> Policy:
    """The policy of these flags.

    Args:
        args (`argparse.Namespace`): with `wait_k` and `policy`.

    Raises:
        ValueError: for a name that is none, or numbers out of range.
    """
    if args.policy is None:
        return read_policy(args.wait_k)
    # Those that look at the model need torch, which takes a moment.
    from ..models.policy_names import policy_from_name

    return policy_from_name(args.policy)


def asked_policy(args: argparse.Namespace) -> Policy | None:
    """The policy of these flags; None if there is none, so that MODEL or a server says what it is.

    Args:
        args (`argparse.Namespace`): with `wait_k` and `policy`.

    Raises:
        ValueError: for a name that is none, or numbers out of range.
    """
    return None if args.wait_k is None and args.policy is None else chosen_policy(args)


def read_policy(name: str) -> Policy:
    """The policy that `--wait-k` names.

    Args:
        name (`str`): a number, or `"full"` for the whole source.

    Raises:
        ValueError: if it is neither, or a number below 1.

    Example:

    ```python
    >>> from transformers_simul.cli.flags import read_policy
    >>> read_policy("3"), read_policy("full")
    (WaitKPolicy(k=3), OfflinePolicy())

    ```
    """
    if name == "full":
        return OfflinePolicy()
    if not name.isdecimal() or int(name) < 1:
        raise ValueError(f"wait-k must be a whole number of at least 1, or 'full', got {name!r}.")
    return WaitKPolicy(int(name))


def add_glossary_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--glossary`, `--copy-numbers` and `--glossary-strength` to a parser.

    Args:
        parser (`argparse.ArgumentParser`): of a command.
    """
    parser.add_argument(
        "--glossary", metavar="FILE", help="terms to prefer: a source term, a tab and its target term on each line"
    )
    parser.add_argument(
        "--copy-numbers",
        action="store_true",
        help="prefer numbers as the source has them, as terms that stay as they are",
    )
    parser.add_argument("--glossary-strength", type=float, metavar="NATS", help="how much to prefer them (6)")


def chosen_glossary(args: argparse.Namespace) -> Any:
    """The glossary of these flags; None without terms and numbers.

    Args:
        args (`argparse.Namespace`): with `glossary`, `copy_numbers` and `glossary_strength`.

    Raises:
        ValueError: for a file that is wrong, naming the line, or a strength of nothing or out of range.
    """
    if not args.glossary and not args.copy_numbers:
        if args.glossary_strength is not None:
            raise ValueError(f"glossary-strength needs a glossary or copy-numbers, got {args.glossary_strength}.")
        return None
    # Needs torch, which takes a moment.
    from ..models.glossary import STRENGTH, Glossary

    strength = STRENGTH if args.glossary_strength is None else args.glossary_strength
    if not args.glossary:
        return Glossary(strength=strength, copy_numbers=True)
    return Glossary.from_file(args.glossary, strength, args.copy_numbers)


def wire_glossary(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `SimulClient.open` for what [`chosen_glossary`] has put into `args.terms`.

    Args:
        args (`argparse.Namespace`): with `terms` and `glossary_strength`.
    """
    if args.terms is None:
        return {}
    return {
        "glossary": args.terms.terms,
        "copy_numbers": args.copy_numbers,
        "glossary_strength": args.glossary_strength,
    }


def check_counts(args: argparse.Namespace, *names: str) -> None:
    """Fail if one of these flags is below 1.

    Args:
        args (`argparse.Namespace`): with all of them.
        *names (`str`): with underscores.

    Raises:
        ValueError: naming the flag and its value.
    """
    for name in names:
        if getattr(args, name) < 1:
            raise ValueError(f"{name.replace('_', '-')} must be at least 1, got {getattr(args, name)}.")


def check_output(name: str, path: str) -> None:
    """Fail before the work, not after it, if a file cannot be written. Its folder is made, as writing would.

    Args:
        name (`str`): of the flag.
        path (`str`): of the file.

    Raises:
        ValueError: if it is a folder, or the file system does not let it be written.
    """
    file = Path(os.path.realpath(path))
    if file.is_dir():
        raise ValueError(f"{name} must be a file, got the folder {path!r}.")
    try:
        # What is there and no regular file, such as a device, is written to; others are replaced.
        if file.is_file() or not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=file.parent):
                pass
    except OSError as error:
        raise ValueError(f"{name} must be a file that can be written, got {path!r}: {error}.") from error


def check_folder(name: str, path: str) -> None:
    """Fail before the work, not after it, if nothing can be written into a folder, or the folder not be made. It is not
    made here.

    Args:
        name (`str`): of the flag.
        path (`str`): of the folder.

    Raises:
        ValueError: if it is a file, or the file system does not let it be written to.
    """
    there = Path(os.path.realpath(path))
    try:
        while not there.exists():
            there = there.parent
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ValueError(f"{name} must be a folder that can be written to, got {path!r}: {error}.") from error


def check_packages(who: str, names: Sequence[str], extra: str) -> None:
    """Fail at once if what a command needs is not installed.

    Args:
        who (`str`): what needs it.
        names (`Sequence[str]`): of modules.
        extra (`str`): that installs them.

    Raises:
        ValueError: naming what is missing, and the extra.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"{who} needs {', '.join(missing)}: pip install 'transformers_simul[{extra}]'.")


def read_token_file(path: str) -> str:
    """Read a file of tokens.

    Args:
        path (`str`): of the file.

    Returns:
        `str`: its text.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        # The text of a decoding error holds bytes of the file.
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise ValueError(f"token-file must be a file that can be read, got {path!r}: {reason}.") from None


__all__ = [
    "CommandParser",
    "add_glossary_flags",
    "add_policy_flags",
    "asked_policy",
    "check_counts",
    "check_folder",
    "check_output",
    "check_packages",
    "chosen_glossary",
    "chosen_policy",
    "hyphenated",
    "read_policy",
    "read_token_file",
    "wire_glossary",
]
