# SPDX-License-Identifier: Apache-2.0
"""The server in Ray Serve on this machine alone, for the benchmarks: `serving_load.py` and `serving_chaos.py` start it.

python benchmarks/serving_ray_server.py MODEL --replicas 2 --max-streams 64 --port 8000
"""

import logging
import os
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Before Ray is imported: nothing leaves this machine, and a slow one is waited for.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_register_timeout_seconds", "300")
os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
import psutil
import ray
from ray import serve

from transformers_simul.cli.flags import CommandParser
from transformers_simul.ray_serve import build

# What a replica takes of the two processors that Ray is told of; several fit, also while one follows another.
SHARE = 0.2


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def cluster(port: int = 0) -> Iterator[str]:
    """Ray and its proxy on loopback, until the block is left; gives the address. With RAY_ADDRESS, in that Ray.

    Args:
        port (`int`, *optional*): of the proxy; a free one without.
    """
    port = port or free_port()
    quiet = {"logging_level": logging.WARNING, "log_to_driver": False, "_node_ip_address": "127.0.0.1"}
    if "RAY_ADDRESS" in os.environ:
        ray.init(**quiet)
    else:
        # Not one that happens to run here already.
        ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, **quiet)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"enable_access_log": False})
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


def deploy(model: str, name: str = "simul", route: str = "/", **args: Any) -> None:
    """Have Ray run the application with these arguments, and wait until it does.

    Args:
        model (`str`): a trained folder.
        name, route (`str`, *optional*): of the application.
        **args: of [`transformers_simul.ray_serve.build`].
    """
    args = {"model": model, "no_token": True, "num_cpus": SHARE} | args
    serve.run(build(args), name=name, route_prefix=route)


def remove(name: str) -> None:
    """Have Ray run an application no more."""
    serve.delete(name)


def replicas(name: str = "simul") -> list[psutil.Process]:
    """The processes of an application's replicas."""
    return _processes(f"ray::ServeReplica:{name}:")


def cpu_s() -> tuple[float, float]:
    """Processor time that the replicas have used, and Ray's proxy."""
    return tuple(  # type: ignore[return-value]
        sum(sum(process.cpu_times()[:2]) for process in found) for found in (replicas(), _processes("ray::ProxyActor"))
    )


def figure(name: str) -> list[float]:
    """What Ray tells Prometheus of one of our metrics, of each replica."""
    port = ray.nodes()[0]["MetricsExportPort"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return [float(line.split()[-1]) for line in lines if line.startswith(f"ray_{name}{{")]


def _processes(title: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if " ".join(process.cmdline()).startswith(title):
                found.append(process)
        except psutil.Error:
            continue
    return found


def another(before: set[int], patience_s: float = 1200.0) -> None:
    """Wait until a replica of the first application is there that was not before: what Ray tells of one that was killed
    is old for a while.

    Args:
        before (`set[int]`): their process ids.

    Raises:
        RuntimeError: if it takes too long.
    """
    end_s = time.monotonic() + patience_s
    while {process.pid for process in replicas()} <= before:
        if time.monotonic() > end_s:
            raise RuntimeError(f"Ray has started no other replica than {sorted(before)} within {patience_s:g} s")
        time.sleep(0.5)


def settled(name: str, count: int, url: str, patience_s: float = 1200.0) -> None:
    """Wait until an application has so many replicas that answer.

    Raises:
        RuntimeError: if it takes too long.
    """
    end_s = time.monotonic() + patience_s
    while time.monotonic() < end_s:
        found = serve.status().applications[name]
        states = found.deployments["simul"].replica_states
        if states == {"RUNNING": count} and found.status == "RUNNING":
            with urllib.request.urlopen(f"{url}/readyz", timeout=60):
                return
        time.sleep(0.5)
    raise RuntimeError(f"{name} has not {count} replicas after {patience_s:g} s, but {states}")


def main() -> None:
    """Serve until SIGTERM."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("model", help="a trained folder")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--max-streams", type=int, default=64, help="of each replica (64)")
    parser.add_argument("--port", type=int, default=0, help="a free one without")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with cluster(args.port) as url:
        deploy(args.model, replicas=args.replicas, max_streams=args.max_streams, rooms=0)
        print(f"serving with {args.replicas} replicas at {url}; Ctrl-C ends it", file=sys.stderr, flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
