# SPDX-License-Identifier: Apache-2.0
"""`transformers-simul serve`: live translation over the network."""

import argparse
import ipaddress
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .flags import check_counts, check_packages, read_token_file
from .loading import add_decoding_weights, find_model
from .page import check_port

TOKENS = "TRANSFORMERS_SIMUL_TOKENS"
EXAMPLES = f"""
examples:
  transformers-simul serve models/simul-falcon-en-de
  transformers-simul serve de=output/en-de fr=output/en-fr --policy wait-5 --max-streams 16
  transformers-simul serve models/simul-falcon-en-de --host 0.0.0.0 --token-file tokens.txt --origin https://captions.example

Tokens stand one in a line, in the file or in the variable {TOKENS}; 'listen' after one lets it listen to rooms alone.
"""


def add_command(commands: Any) -> None:
    """Add the command and its flags to the parser."""
    parser = commands.add_parser(
        "serve",
        help="serve live translation over WebSocket and HTTP",
        description="Serve live translation: streams over WebSocket, whole texts over HTTP, rooms with many listeners.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "model", nargs="+", metavar="MODEL", help="a trained folder or a name on the Hub; NAME=MODEL names it"
    )
    parser.add_argument("--trust-remote-code", action="store_true", help="allow running code that comes with MODEL")
    add_decoding_weights(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0 for a free one (8000)")
    parser.add_argument("--policy", help="of streams that name none (what MODEL names, or wait-3)")
    parser.add_argument("--max-streams", type=int, default=64, help="of each model, at once; more are refused (64)")
    parser.add_argument("--max-tokens", type=int, default=512, help="of a stream, or of each sentence (512)")
    parser.add_argument(
        "--segmenter",
        action="append",
        default=[],
        metavar="[LANGUAGE=]FILE",
        help="of `segmenter`, for clients whose source has no punctuation; of a source language, or of all",
    )
    parser.add_argument("--token-file", help="a file of tokens, one in a line")
    parser.add_argument("--no-token", action="store_true", help="serve other machines without asking for a token")
    parser.add_argument("--origin", action="append", default=[], help="whose pages may use the server; repeat for more")
    parser.add_argument(
        "--host-name",
        action="append",
        default=[],
        metavar="NAME",
        help="further host name to answer to where no token is asked for; * for any",
    )
    parser.add_argument("--streams-per-token", type=int, default=64, help="at once (64)")
    parser.add_argument("--words-per-second", type=float, default=50.0, help="of source, that a stream may send (50)")
    parser.add_argument("--idle-s", type=float, default=60.0, help="that a stream may be silent (60)")
    parser.add_argument("--total-s", type=float, default=14400.0, help="that a stream may last (14400)")
    parser.add_argument("--drain-s", type=float, default=30.0, help="that streams get to finish after SIGTERM (30)")
    parser.add_argument("--root-path", default="", help="path under which a proxy shows the server")
    parser.add_argument("--verbose", action="store_true", help="log each stream's beginning and end to stderr")
    parser.set_defaults(run=_serve)


def _serve(args: argparse.Namespace) -> int:
    check_extra()
    models = named_models(args.model)
    lines = token_lines(args.token_file)
    _check_host(args, bool([line for line in lines if line.strip() and not line.startswith("#")]))
    if args.port:
        check_port(args.host, args.port)
    check_counts(args, "max_streams", "max_tokens")
    for folder in models.values():
        find_model(folder)
    from ..serving.settings import Settings
    from ..serving.tokens import Tokens

    settings = Settings(
        policy=args.policy,
        streams_per_token=args.streams_per_token,
        words_per_second=args.words_per_second,
        idle_s=args.idle_s,
        total_s=args.total_s,
        drain_s=args.drain_s,
    )
    tokens = Tokens(lines)
    if args.verbose:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    from ..serving.track import check_policy

    if args.policy is not None:
        check_policy(args.policy)
    return _run(args, models, settings, tokens)


def _run(args: argparse.Namespace, models: dict[str, str], settings: Any, tokens: Any) -> int:
    from ..serving.server import make_server

    app = assemble(
        models,
        settings,
        tokens,
        max_streams=args.max_streams,
        max_tokens=args.max_tokens,
        trust_remote_code=args.trust_remote_code,
        decoding_weights=args.decoding_weights,
        segmenters=args.segmenter,
        origins=args.origin,
        host_names=args.host_name,
    )
    service = app.state.service

    def on_start(url: str) -> None:
        names = ", ".join(f"{each.name} ({each.source_lang} to {each.target_lang})" for each in service.served)
        print(f"serving {names} at {url}; Ctrl-C ends it", file=sys.stderr, flush=True)

    server = make_server(app, service, args.host, args.port, on_start, args.root_path)
    server.run()
    return 0 if server.started else 1


def assemble(
    models: dict[str, str],
    settings: Any,
    tokens: Any,
    *,
    max_streams: int,
    max_tokens: int,
    trust_remote_code: bool,
    decoding_weights: str,
    segmenters: Sequence[str],
    origins: Sequence[str],
    host_names: Sequence[str],
) -> Any:
    """The application with its models loaded, for whatever runs it. Its `state.service` is the [`Service`].

    Args:
        models (`dict[str, str]`): of each name the folder, from [`named_models`].
        settings (`Settings`): limits.
        tokens (`Tokens`): who may come.
        max_streams, max_tokens (`int`): of each engine.
        trust_remote_code (`bool`): whether code that comes with a model may run.
        decoding_weights (`str`): how a CPU decodes, one of `DECODING_WEIGHTS` of [`load`].
        segmenters (`Sequence[str]`): files, each of all source languages or after `LANGUAGE=`.
        origins (`Sequence[str]`): whose pages may use it.
        host_names (`Sequence[str]`): further names that it answers to where no token is asked for.

    Raises:
        ValueError: if there is no such model or segmenter, or it is damaged.
    """
    from ..serving.app import build_app
    from ..serving.metrics import Metrics
    from ..serving.models import serve_models
    from ..serving.service import Service
    from ..streaming.segmenter import Segmenter
    from .loading import load

    ends_between = {language: Segmenter.load(file) for language, file in named_segmenters(segmenters).items()}
    metrics = Metrics()
    loaded = {
        name: load(folder, trust_remote_code, decoding_weights=decoding_weights) for name, folder in models.items()
    }
    served = serve_models(loaded, metrics, max_streams, max_tokens)
    spoken = {each.source_lang for each in served}
    if others := ends_between.keys() - spoken - {""}:
        raise ValueError(f"segmenter must be of a source language of a model, {sorted(spoken)}, got {sorted(others)}.")
    return build_app(Service(served, settings, tokens, metrics, ends_between), origins, None if tokens else host_names)


def check_extra() -> None:
    """Whether what the server needs is installed.

    Raises:
        ValueError: if not; it names the extra.
    """
    check_packages("the server", ("fastapi", "uvicorn", "websockets", "prometheus_client"), "serve")


def named_models(arguments: Sequence[str]) -> dict[str, str]:
    """The folder of each name; a folder without a name is served under its own.

    Args:
        arguments (`Sequence[str]`): each a folder, a name on the Hub, or `NAME=` one of these.

    Raises:
        ValueError: for a name that is empty, or there twice.
    """
    models: dict[str, str] = {}
    for argument in arguments:
        name, equals, folder = argument.partition("=")
        if not equals or Path(argument).exists():
            name, folder = Path(argument).resolve().name if Path(argument).exists() else argument, argument
        if not name or name in models:
            raise ValueError(f"model must have a name of its own, as in NAME={folder}, got {name!r} twice or empty.")
        models[name] = folder
    return models


def named_segmenters(arguments: Sequence[str]) -> dict[str, str]:
    """The file of each source language; of `""` the file of all others.

    Args:
        arguments (`Sequence[str]`): each a file, or `LANGUAGE=` one.

    Raises:
        ValueError: for a language that is there twice.
    """
    files: dict[str, str] = {}
    for argument in arguments:
        language, equals, file = argument.partition("=")
        if not equals or Path(argument).exists():
            language, file = "", argument
        if language in files:
            raise ValueError(f"segmenter must be one for each language, as in en=FILE, got a second: {argument!r}.")
        files[language] = file
    return files


def token_lines(file: str | None) -> list[str]:
    """The lines of tokens, of the environment and of a file.

    Args:
        file (`str`, *optional*): of tokens.

    Raises:
        ValueError: if it cannot be read.
    """
    lines = os.environ.get(TOKENS, "").splitlines()
    if file is not None:
        lines += read_token_file(file).splitlines()
    return lines


def _check_host(args: argparse.Namespace, has_tokens: bool) -> None:
    """Refuse a server that everybody can reach and that asks for no token, unless the flags say so."""
    try:
        is_local = ipaddress.ip_address(args.host).is_loopback
    except ValueError:
        is_local = args.host == "localhost"
    if args.token_file is not None and not has_tokens:
        raise ValueError(f"token-file must hold a token, got none in {args.token_file!r}.")
    if not is_local and not has_tokens and not args.no_token:
        raise ValueError(
            f"host must be this machine's own (127.0.0.1) where no token is asked for, got {args.host!r}: give "
            f"--token-file or {TOKENS}, or --no-token if everybody may use the server."
        )


__all__ = ["TOKENS", "add_command", "assemble", "check_extra", "named_models", "named_segmenters", "token_lines"]
