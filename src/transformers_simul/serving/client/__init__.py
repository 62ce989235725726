# SPDX-License-Identifier: Apache-2.0
"""Clients of `transformers-simul serve`, which reconnect and resume by themselves.

Needs `transformers_simul[client]`.
"""

from .client import SimulClient
from .failures import ConnectionLost, ServerError
from .plain import PlainSimulClient

__all__ = ["ConnectionLost", "PlainSimulClient", "ServerError", "SimulClient"]
