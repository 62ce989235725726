# SPDX-License-Identifier: Apache-2.0
"""A replica: the application in a process of Ray's."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ..cli.serve import assemble, named_models, token_lines
from ..serving.settings import Settings
from .arguments import NO_TOKEN, check_rooms, settings_of
from .figures import Figures

_logger = logging.getLogger(__name__)
# Seconds: between two looks at whether Ray stops this replica, and between two times that it is told the metrics.
_LOOK_S, TELL_S = 0.25, 5.0


class Replica:
    """One server of several, in a process of its own, which Ray Serve starts, asks, and stops.

    Args:
        given (`dict[str, Any]`): the arguments of [`build`], complete.
    """

    def __init__(self, given: dict[str, Any]):
        self._given = given
        self._service: Any = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __serve_build_asgi_app__(self) -> Any:
        """The application, for Ray, which asks once."""
        from ray import serve
        from ray.serve import metrics

        given, settings = self._given, settings_of(self._given)
        check_rooms(given["rooms"], serve.get_replica_context().world_size)
        app = self.begin(settings, stop_mark())
        figures = Figures(self._service.metrics.registry, metrics.Gauge)
        self._tasks.append(asyncio.create_task(self._tell(figures)))
        return app

    def begin(self, settings: Settings, is_stopping: Callable[[], bool] | None) -> Any:
        """Load the models, and watch whether the replica is to stop; returns the application.

        Args:
            settings (`Settings`): limits.
            is_stopping (`Callable[[], bool]`, *optional*): whether Ray stops the replica, if that can be told.

        Raises:
            ValueError: if a model or the tokens are not there.
        """
        from ..serving.tokens import Tokens

        given = self._given
        tokens = Tokens(token_lines(given["token_file"]))
        if not tokens and not given["no_token"]:
            raise ValueError(NO_TOKEN)
        app = assemble(
            named_models(given["model"]),
            settings,
            tokens,
            max_streams=given["max_streams"],
            max_tokens=given["max_tokens"],
            trust_remote_code=given["trust_remote_code"],
            decoding_weights=given["decoding_weights"] or "auto",
            segmenters=given["segmenter"],
            origins=given["origin"],
            host_names=given["host_name"],
        )
        self._service = app.state.service
        if is_stopping is None:
            _logger.warning("this Ray does not tell a replica that it stops: its streams are cut, and clients resume")
        else:
            self._tasks.append(asyncio.create_task(self._drain_once(is_stopping)))
        return app

    async def _drain_once(self, is_stopping: Callable[[], bool]) -> None:
        while not is_stopping():
            await asyncio.sleep(_LOOK_S)
        await self._service.drain()

    async def _tell(self, figures: Figures) -> None:
        while True:
            figures.hand_over()
            await asyncio.sleep(TELL_S)

    def check_health(self) -> None:
        """Asked by Ray every few seconds; a replica that is not well is replaced.

        Raises:
            RuntimeError: after an engine has failed.
        """
        service = self._service
        if not service.is_ready and not service.is_draining:
            raise RuntimeError("an engine has ended with an error: the log says which.")


def stop_mark() -> Callable[[], bool] | None:
    """Return what tells whether Ray stops this replica.

    Ray waits for connections that are open, and tells nobody: a stream would run on until it is cut. No public name of
    Ray 2.60 says that a replica stops, so its own mark is read.

    Returns:
        `Callable[[], bool]`: whether the replica that runs in this process is to stop; None where this Ray has no such
        mark.
    """
    import ray

    for actor in ray._private.worker.global_worker.actors.values():
        replica: Any = getattr(actor, "_replica_impl", None)
        if hasattr(replica, "_shutting_down"):
            return lambda: bool(replica._shutting_down)
    return None


__all__ = ["Replica"]
