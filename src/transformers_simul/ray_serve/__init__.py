# SPDX-License-Identifier: Apache-2.0
"""The server on one machine or many, as an application of Ray Serve: `transformers_simul.ray_serve:build`.

Needs `transformers_simul[ray]`. `deploy/ray.yaml` is what `serve deploy` takes; docs/deployment.md explains it.
"""

from collections.abc import Mapping
from typing import Any

try:
    from .arguments import checked, options
except ModuleNotFoundError as error:
    if error.name != "pydantic":
        raise
    raise ImportError(f"Ray Serve needs {error.name}: pip install 'transformers_simul[ray]'.") from error
from .replica import Replica


def build(args: Mapping[str, Any]) -> Any:
    """The application, for `serve run`, `serve deploy` and `serve.run`.

    Every replica is a server as `transformers-simul serve` starts it, with an engine for each of its models.

    Args:
        args (`Mapping[str, Any]`): what the flags of `transformers-simul serve` are, by their names with `_`:
            `model` (a folder or a list of folders, each on every node), `max_streams`, `max_tokens`, `token_file` (on
            every node), `no_token`, `origin`, `host_name`, `trust_remote_code`, `decoding_weights`; every field of
            [`Settings`]; and of the replicas `replicas` (1), `max_replicas` (as many as `replicas`), `target_streams`
            (connections of a replica before another one is started: 0.8 of those it takes), `queue` (connections that
            wait at each proxy for a replica: as many as all take), `num_cpus` (1) and `num_gpus` (0) of each.

    Returns:
        `ray.serve.Application`: for `serve.run`.

    Raises:
        ValueError: for an argument that is none, or that does not fit the others.
        ImportError: without Ray.

    Example:

    ```python
    >>> from transformers_simul.ray_serve import build
    >>> build({"model": "output/en-de", "no_token": True, "replicas": 2, "rooms": 8})
    Traceback (most recent call last):
    ValueError: rooms must be 0 with more than one replica, got 8: a room lives in one replica, ...

    ```
    """
    given = checked(args)
    serve = _ray_serve()
    # Ray's log of requests would hold addresses of clients.
    return (
        serve.deployment(serve.ingress()(Replica))
        .options(name="simul", logging_config={"enable_access_log": False}, **options(given))
        .bind(given.model_dump())
    )


def _ray_serve() -> Any:
    try:
        from ray import serve
    except ModuleNotFoundError as error:
        raise ImportError(f"Ray Serve needs {error.name}: pip install 'transformers_simul[ray]'.") from error
    return serve


__all__ = ["Replica", "build"]
