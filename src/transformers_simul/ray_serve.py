# SPDX-License-Identifier: Apache-2.0
"""The server on one machine or many, as an application of Ray Serve: `transformers_simul.ray_serve:build`.

Needs `transformers_simul[ray]`. `deploy/ray.yaml` is what `serve deploy` takes; docs/deployment.md explains it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from .cli.loading import KINDS
from .cli.serve import TOKENS, assemble, check_extra, named_models, token_lines
from .serving.settings import Settings

try:
    from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model
except ModuleNotFoundError as error:
    raise ImportError(f"Ray Serve needs {error.name}: pip install 'transformers_simul[ray]'.") from error

_logger = logging.getLogger(__name__)
# Seconds: between two looks at whether Ray stops this replica, and what it may take beyond the time for its streams.
_LOOK_S, _END_S = 0.25, 15.0
# Of a replica's places, those that are taken before Ray starts another one.
_BUSY = 0.8
# Of a new version, replicas that may run beyond those that are wanted, in per cent.
_SURGE = 25

# `serve run` gives all values as text, and one where there may be several.
_Several = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
_Count = Annotated[int, Field(ge=1)]


class _Given(BaseModel):
    """What an operator gives, beside the fields of [`Settings`]."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())
    model: Annotated[_Several, Field(min_length=1)]
    trust_remote_code: bool = False
    decoding_weights: Literal[KINDS] | None = None  # type: ignore[valid-type]
    max_streams: _Count = 64
    max_tokens: _Count = 512
    token_file: str | None = None
    no_token: bool = False
    origin: _Several = []
    host_name: _Several = []
    replicas: _Count = 1
    max_replicas: _Count | None = None
    target_streams: Annotated[float, Field(gt=0)] | None = None
    queue: _Count | None = None
    num_cpus: Annotated[float, Field(ge=0)] = 1.0
    num_gpus: Annotated[float, Field(ge=0)] = 0.0
    rooms: int | None = None


_Arguments: Any = create_model(
    "_Arguments",
    __base__=_Given,
    **{field.name: (field.type, field.default) for field in fields(Settings) if field.name != "rooms"},  # type: ignore[call-overload]
)


def build(args: Mapping[str, Any]) -> Any:
    """The application, for `serve run`, `serve deploy` and `serve.run`.

    Every replica is a server as `transformers-simul serve` starts it, with an engine for each of its models.

    Args:
        args (`Mapping[str, Any]`): what the flags of `transformers-simul serve` are, by their names with `_`:
            `model` (a folder or a list of folders, each on every node), `max_streams`, `max_tokens`, `token_file` (on
            every node), `no_token`, `origin`, `host_name`, `trust_remote_code`, `decoding_weights`; every field of
            [`Settings`]; and of the replicas `replicas` (1), `max_replicas` (as many as `replicas`), `target_streams`
            (connections of a replica before another one is started: 0.8 of those it takes), `queue` (connections that
            wait at each proxy for a replica: as many as one takes), `num_cpus` (1) and `num_gpus` (0) of each.

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
    given = _checked(args)
    serve = _ray_serve()
    options = _options(given)
    # Ray's log of requests would hold addresses of clients.
    return (
        serve.deployment(serve.ingress()(Replica))
        .options(name="simul", logging_config={"enable_access_log": False}, **options)
        .bind(given.model_dump())
    )


class Replica:
    """One server of several, in a process of its own, which Ray Serve starts, asks, and stops.

    Args:
        given (`dict[str, Any]`): the arguments of [`build`], complete.
    """

    def __init__(self, given: dict[str, Any]):
        self._given = given
        self._service: Any = None
        self._watch: asyncio.Task[None] | None = None

    async def __serve_build_asgi_app__(self) -> Any:
        """The application, for Ray, which asks once."""
        from ray import serve

        given, settings = self._given, _settings(self._given)
        _check_rooms(given["rooms"], serve.get_replica_context().world_size)
        return self.begin(settings, _stop_mark())

    def begin(self, settings: Settings, is_stopping: Callable[[], bool] | None) -> Any:
        """Load the models, and watch whether the replica is to stop; returns the application.

        Args:
            settings (`Settings`): limits.
            is_stopping (`Callable[[], bool]`, *optional*): whether Ray stops the replica, if that can be told.

        Raises:
            ValueError: if a model or the tokens are not there.
        """
        from .serving.tokens import Tokens

        given = self._given
        tokens = Tokens(token_lines(given["token_file"]))
        if not tokens and not given["no_token"]:
            raise ValueError(_NO_TOKEN)
        app = assemble(
            named_models(given["model"]),
            settings,
            tokens,
            max_streams=given["max_streams"],
            max_tokens=given["max_tokens"],
            trust_remote_code=given["trust_remote_code"],
            decoding_weights=given["decoding_weights"],
            origins=given["origin"],
            host_names=given["host_name"],
        )
        self._service = app.state.service
        if is_stopping is None:
            _logger.warning("this Ray does not tell a replica that it stops: its streams are cut, and clients resume")
        else:
            self._watch = asyncio.create_task(self._drain_once(is_stopping))
        return app

    async def _drain_once(self, is_stopping: Callable[[], bool]) -> None:
        while not is_stopping():
            await asyncio.sleep(_LOOK_S)
        await self._service.drain()

    def check_health(self) -> None:
        """Asked by Ray every few seconds; a replica that is not well is replaced.

        Raises:
            RuntimeError: after an engine has failed.
        """
        service = self._service
        if not service.is_ready and not service.is_draining:
            raise RuntimeError("an engine has ended with an error: the log says which.")


_NO_TOKEN = (
    f"token_file or {TOKENS} must hold a token, got none: a cluster is reached from other machines. Say no_token: true "
    "if everybody may use the server."
)


def _checked(args: Mapping[str, Any]) -> _Given:
    check_extra()
    from .models.policy_names import policy_from_name
    from .serving.messages import what_is_wrong

    try:
        given: _Given = _Arguments.model_validate(dict(args))
    except ValidationError as error:
        raise ValueError(f"{what_is_wrong(error)}, in the arguments of the application.") from None
    # Replicas run in a folder of their own.
    given.model = [f"{name}={_absolute(folder)}" for name, folder in named_models(given.model).items()]
    if given.token_file is not None:
        given.token_file = _absolute(given.token_file)
    most = given.replicas if given.max_replicas is None else given.max_replicas
    if most < given.replicas:
        raise ValueError(f"max_replicas must be at least replicas, which is {given.replicas}, got {most}.")
    if given.rooms is None:
        given.rooms = 0 if most > 1 else Settings.rooms
    _check_rooms(given.rooms, most)
    policy_from_name(_settings(given.model_dump()).policy)
    # A file is looked at where it is needed: on the nodes.
    if given.token_file is None and not given.no_token and not token_lines(None):
        raise ValueError(_NO_TOKEN)
    return given


def _absolute(file: str) -> str:
    return str(Path(file).absolute()) if Path(file).exists() else file


def _check_rooms(rooms: int, replicas: int | None) -> None:
    if rooms and replicas is not None and replicas > 1:
        raise ValueError(
            f"rooms must be 0 with more than one replica, got {rooms}: a room lives in one replica, and Ray would lead "
            "its listeners to others. Serve rooms as an application of one replica (deploy/ray.yaml)."
        )


def _settings(given: Mapping[str, Any]) -> Settings:
    return Settings(**{field.name: given[field.name] for field in fields(Settings)})


def _options(given: Any) -> dict[str, Any]:
    """What Ray is told of the deployment."""
    places = given.connections if given.rooms else given.max_streams * len(given.model)
    options: dict[str, Any] = {
        # The replica with the fewest connections gets the next. A listener of a room is a connection too.
        "max_ongoing_requests": places,
        "max_queued_requests": given.queue or places,
        # Streams get their time, then say so to their clients, and Ray waits for that.
        "graceful_shutdown_timeout_s": given.drain_s + _END_S,
        "graceful_shutdown_wait_loop_s": 0.5,
        # Of a new version, replicas come before those of the old one go. Two with the same rooms would share neither.
        "max_surge_percent": 0 if given.rooms else _SURGE,
        "ray_actor_options": {"num_cpus": given.num_cpus, "num_gpus": given.num_gpus},
    }
    if given.max_replicas is None or given.max_replicas == given.replicas:
        return options | {"num_replicas": given.replicas}
    return options | {
        "autoscaling_config": {
            "min_replicas": given.replicas,
            "max_replicas": given.max_replicas,
            "target_ongoing_requests": given.target_streams or _BUSY * places,
        }
    }


def _ray_serve() -> Any:
    try:
        from ray import serve
    except ModuleNotFoundError as error:
        raise ImportError(f"Ray Serve needs {error.name}: pip install 'transformers_simul[ray]'.") from error
    return serve


def _stop_mark() -> Callable[[], bool] | None:
    """Whether Ray stops this replica.

    Ray waits for connections that are open, and tells nobody: a stream would run on until it is cut. No public name of
    Ray 2.60 says that a replica stops, so its own mark is read.
    """
    import ray

    for actor in ray._private.worker.global_worker.actors.values():
        replica: Any = getattr(actor, "_replica_impl", None)
        if hasattr(replica, "_shutting_down"):
            return lambda: bool(replica._shutting_down)
    return None


__all__ = ["Replica", "build"]
