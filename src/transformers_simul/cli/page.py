# SPDX-License-Identifier: Apache-2.0
"""`transformers-simul demo`: the live page."""

import argparse
import socket
import sys
from typing import Any

from .flags import add_glossary_flags, check_counts, chosen_glossary
from .loading import add_decoding_weights, add_model, find_model

EXAMPLES = """
examples:
  transformers-simul demo models/simul-falcon-en-de
  transformers-simul demo models/simul-falcon-en-de --port 8000 --max-streams 4
  transformers-simul demo models/simul-falcon-en-de --policy learned:0.5 --policy confidence:0.6,max=7
  transformers-simul demo models/simul-falcon-en-de --example "The room is dark." --example "The light is on."
"""


def add_command(commands: Any) -> None:
    """Add the command and its flags to the parser."""
    parser = commands.add_parser(
        "demo",
        help="serve a page that translates while you type",
        description="Serve a page on this machine that translates word by word and draws what was read when.",
        epilog=EXAMPLES,
    )
    add_model(parser)
    add_decoding_weights(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine alone)")
    parser.add_argument("--port", type=int, help="port to listen on (the first free one from 7860 on)")
    parser.add_argument("--max-streams", type=int, default=8, help="translations at once; more visitors wait (8)")
    parser.add_argument(
        "--example",
        action="append",
        metavar="TEXT",
        help="example source on the page; repeat for more (a few sentences)",
    )
    parser.add_argument(
        "--host-name",
        action="append",
        default=[],
        metavar="NAME",
        help="further host name to answer to, beside localhost, this machine's name and IP addresses; * for any",
    )
    parser.add_argument(
        "--policy",
        action="append",
        default=[],
        metavar="NAME",
        help="further policy to choose from, such as confidence:0.6,max=7 (docs/policies.md); repeat for more",
    )
    add_glossary_flags(parser)
    parser.add_argument(
        "--segmenter",
        help="file of `segmenter`: visitors can have punctuation and capitals added to source without them",
    )
    parser.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> int:
    check_counts(args, "max_streams")
    if args.port is not None:
        check_port(args.host, args.port)
    find_model(args.model)
    # Before the model is loaded, it says which extra is missing.
    from ..live_page import build_page
    from ..serving.track import check_policy

    for name in args.policy:
        check_policy(name)
    glossary = chosen_glossary(args)
    ends_between = None
    if args.segmenter:
        from ..streaming.segmenter import Segmenter

        ends_between = Segmenter.load(args.segmenter)
    from .loading import load

    page = build_page(
        *load(args.model, args.trust_remote_code, decoding_weights=args.decoding_weights),
        max_streams=args.max_streams,
        examples=args.example,
        host_names=args.host_name,
        policies=args.policy,
        glossary=glossary,
        ends_between=ends_between,
    )
    try:
        _, url, _ = page.launch(server_name=args.host, server_port=args.port, quiet=True, prevent_thread_lock=True)
    except OSError as error:
        raise _not_ours(args.host, args.port, error) from error
    print(f"open {url} in a browser; Ctrl-C ends it", file=sys.stderr, flush=True)
    page.block_thread()
    return 0


def check_port(host: str, port: int) -> None:
    """Fail before the model is loaded.

    Args:
        host (`str`): address to listen on.
        port (`int`): to listen on.

    Raises:
        ValueError: if it is no port, or not free.
    """
    if not 0 < port < 65536:
        raise ValueError(f"port must be between 1 and 65535, got {port}.")
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise _not_ours(host, port, error) from error


def _not_ours(host: str, port: int | None, error: OSError) -> ValueError:
    return ValueError(f"host and port must be ours to listen on, got {host!r} and {port}: {error}")


__all__ = ["add_command", "check_port"]
