# SPDX-License-Identifier: Apache-2.0
"""What an operator gives to the application in Ray Serve, and what Ray is told of it."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from ..cli.loading import DECODING_WEIGHTS
from ..cli.serve import TOKENS, check_extra, named_models, named_segmenters, token_lines
from ..serving.settings import Settings

# Seconds that a replica's end may take beyond the time for its streams.
_END_S = 15.0
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
    decoding_weights: Literal[DECODING_WEIGHTS] | None = None  # type: ignore[valid-type]
    max_streams: _Count = 64
    max_tokens: _Count = 512
    segmenter: _Several = []
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


NO_TOKEN = (
    f"token_file or {TOKENS} must hold a token, got none: a cluster is reached from other machines. Say no_token: true "
    "if everybody may use the server."
)


def checked(args: Mapping[str, Any]) -> _Given:
    check_extra()
    from ..serving.messages import what_is_wrong
    from ..serving.track import check_policy

    try:
        given: _Given = _Arguments.model_validate(dict(args))
    except ValidationError as error:
        raise ValueError(f"{what_is_wrong(error)}, in the arguments of the application.") from None
    # Replicas run in a folder of their own.
    given.model = [f"{name}={_absolute(folder)}" for name, folder in named_models(given.model).items()]
    files = named_segmenters(given.segmenter).items()
    given.segmenter = [f"{language}={_absolute(file)}" for language, file in files]
    if given.token_file is not None:
        given.token_file = _absolute(given.token_file)
    most = given.replicas if given.max_replicas is None else given.max_replicas
    if most < given.replicas:
        raise ValueError(f"max_replicas must be at least replicas, which is {given.replicas}, got {most}.")
    if given.rooms is None:
        given.rooms = 0 if most > 1 else Settings.rooms
    check_rooms(given.rooms, most)
    if (policy := settings_of(given.model_dump()).policy) is not None:
        check_policy(policy)
    # A file is looked at where it is needed: on the nodes.
    if given.token_file is None and not given.no_token and not token_lines(None):
        raise ValueError(NO_TOKEN)
    return given


def _absolute(file: str) -> str:
    return str(Path(file).absolute()) if Path(file).exists() else file


def check_rooms(rooms: int, replicas: int | None) -> None:
    if rooms and replicas is not None and replicas > 1:
        raise ValueError(
            f"rooms must be 0 with more than one replica, got {rooms}: a room lives in one replica, and Ray would lead "
            "its listeners to others. Serve rooms as an application of one replica (deploy/ray.yaml)."
        )


def settings_of(given: Mapping[str, Any]) -> Settings:
    return Settings(**{field.name: given[field.name] for field in fields(Settings)})


def options(given: Any) -> dict[str, Any]:
    """What Ray is told of the deployment."""
    places = given.connections if given.rooms else given.max_streams * len(given.model)
    options: dict[str, Any] = {
        # The replica with the fewest connections gets the next. A listener of a room is a connection too.
        "max_ongoing_requests": places,
        # Also who comes back when a replica dies is in the queue for a moment, with all others of it.
        "max_queued_requests": given.queue or places * (given.max_replicas or given.replicas),
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


__all__ = ["NO_TOKEN", "check_rooms", "checked", "options", "settings_of"]
