# SPDX-License-Identifier: Apache-2.0
"""Clients of `transformers-simul serve`, which reconnect and resume by themselves.

Needs `transformers_simul[client]`.
"""

try:
    from .client import SimulClient
    from .failures import ConnectionLost, ServerError
    from .plain import PlainSimulClient
except ModuleNotFoundError as error:
    if error.name not in ("anyio", "pydantic", "tenacity", "websockets"):
        raise
    raise ImportError(f"clients of a server need {error.name}: pip install 'transformers_simul[client]'.") from error

__all__ = ["ConnectionLost", "PlainSimulClient", "ServerError", "SimulClient"]
