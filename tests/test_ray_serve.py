# SPDX-License-Identifier: Apache-2.0
"""The server in Ray Serve, without Ray: its arguments, what Ray is told, and what a replica does.

With Ray: `benchmarks/serving_ray.py`, which takes minutes.
"""

import asyncio
import importlib
import sys
import types
import typing

import pytest

from serving import END, LIMIT_S, rest, run, running, say, source, start, taught, until, words
from test_docs import ROOT
from transformers_simul.ray_serve import Replica, build
from transformers_simul.ray_serve import replica as replica_module
from transformers_simul.serving.server import make_server
from transformers_simul.serving.settings import Settings

yaml = pytest.importorskip("yaml")
OPEN = {"model": "output/en-de", "no_token": True}


class Gauge:
    """Stands for `ray.serve.metrics.Gauge`, which takes no labels but its own."""

    told: typing.ClassVar[dict] = {}

    def __init__(self, name, description, tag_keys):
        self.name, self.keys = name, tag_keys
        assert description
        assert name not in {known for known, _ in self.told}

    def set(self, value, tags):
        assert set(tags) == set(self.keys)
        self.told[self.name, tuple(sorted(tags.items()))] = value


class Recorder(types.ModuleType):
    """Stands for `ray.serve`: notes what it is told."""

    def __init__(self):
        super().__init__("ray.serve")

    def ingress(self):
        return lambda kind: kind

    def deployment(self, kind):
        self.kind = kind
        return self

    def options(self, **options):
        self.told = options
        return self

    def bind(self, given):
        self.given = given
        return self


@pytest.fixture
def recorder(monkeypatch):
    recorder, ray = Recorder(), types.ModuleType("ray")
    ray.serve = recorder
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.serve", recorder)
    recorder.metrics = types.SimpleNamespace(Gauge=Gauge)
    Gauge.told.clear()
    monkeypatch.delenv("TRANSFORMERS_SIMUL_TOKENS", raising=False)
    return recorder


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({}, "model: Field required"),
        ({"model": []}, "model: .*at least 1"),
        ({"model": ["a=x", "a=y"], "no_token": True}, "model must have a name of its own"),
        ({"model": "x"}, "token_file or TRANSFORMERS_SIMUL_TOKENS must hold a token, got none"),
        (OPEN | {"max_stream": 3}, "max_stream: Extra inputs are not permitted"),
        (OPEN | {"max_streams": 0}, "max_streams: .*greater than or equal to 1"),
        (OPEN | {"idle_s": "0"}, "idle_s must be above 0, got 0.0"),
        (OPEN | {"policy": "wat"}, "policy must be one of .*got 'wat'"),
        (OPEN | {"decoding_weights": "int4"}, "decoding_weights: .*'int8'"),
        (OPEN | {"replicas": 3, "max_replicas": 2}, "max_replicas must be at least replicas, which is 3, got 2"),
        (OPEN | {"replicas": 2, "rooms": 4}, "rooms must be 0 with more than one replica, got 4"),
        (OPEN | {"max_replicas": 2, "rooms": 4}, "rooms must be 0 with more than one replica, got 4"),
        (OPEN | {"rooms": -1}, "rooms must be at least 0, got -1"),
    ],
)
def test_arguments_that_are_none_are_named(recorder, args, message):
    with pytest.raises(ValueError, match=message):
        build(args)
    assert not hasattr(recorder, "given")


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"needs ray: pip install 'transformers_simul\[ray\]'"):
        build(OPEN)


def test_ray_is_told_of_places_replicas_and_the_time_that_streams_get(recorder):
    build(OPEN | {"model": ["en-de", "en-fr"], "max_streams": "16", "drain_s": "12", "replicas": 3, "num_gpus": 1})
    assert recorder.kind is Replica
    assert recorder.told["num_replicas"] == 3
    assert recorder.told["max_ongoing_requests"] == 32
    assert recorder.told["graceful_shutdown_timeout_s"] >= 12 + 6
    assert recorder.told["ray_actor_options"] == {"num_cpus": 1, "num_gpus": 1}
    assert recorder.given["rooms"] == 0
    assert recorder.told["max_queued_requests"] == 3 * 32
    # Of a new version, replicas come before the old ones go.
    assert recorder.told["max_surge_percent"] > 0
    build(OPEN | {"model": ["en-de", "en-fr"], "max_streams": 16, "drain_s": 12, "max_replicas": 9, "queue": 2})
    assert recorder.told["autoscaling_config"] == {
        "min_replicas": 1, "max_replicas": 9, "target_ongoing_requests": pytest.approx(25.6),
    }  # fmt: skip
    assert recorder.told["max_queued_requests"] == 2
    # Listeners of rooms are connections too.
    build(OPEN | {"connections": 500})
    assert (recorder.told["num_replicas"], recorder.told["max_ongoing_requests"]) == (1, 500)
    assert recorder.given["rooms"] == Settings.rooms
    assert recorder.told["max_surge_percent"] == 0


def test_the_file_for_serve_deploy_has_arguments_that_are_taken(recorder, tmp_path, monkeypatch):
    # Folders and files that are there are found from elsewhere too.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").mkdir()
    assert build(OPEN | {"model": ["one", "fr=owner/two"]}).given["model"] == [
        f"one={tmp_path / 'one'}",
        "fr=owner/two",
    ]
    for name in ("policy", "message_bytes", "total_s", "listeners", "room_s"):
        assert name in build(OPEN).given
    applications = yaml.safe_load((ROOT / "deploy" / "ray.yaml").read_text(encoding="utf-8"))["applications"]
    for application in applications:
        module, _, name = application["import_path"].partition(":")
        getattr(importlib.import_module(module), name)(application["args"])
        assert "token_file" in application["args"]
        assert (recorder.given["rooms"] > 0) == (application["name"] == "rooms")
    assert len({application["route_prefix"] for application in applications}) == len(applications) == 2


def given(recorder, **args):
    build(OPEN | args)
    return recorder.given


def test_a_replica_needs_a_token_or_to_be_told(recorder, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("# none\n")
    replica = Replica(given(recorder, no_token=False, token_file=str(tokens)))
    with pytest.raises(ValueError, match="must hold a token, got none"):
        replica.begin(Settings(), None)
    tokens.write_text("0123456789abcdef\n")
    replica = Replica(given(recorder, no_token=False, token_file=str(tokens), model=str(tmp_path)))
    with pytest.raises(ValueError, match=r"has no config\.json"):
        replica.begin(Settings(), None)


def test_a_deployment_of_more_replicas_than_it_was_built_for_keeps_no_rooms(recorder):
    recorder.get_replica_context = lambda: types.SimpleNamespace(world_size=2)
    replica = Replica(given(recorder))
    with pytest.raises(ValueError, match="rooms must be 0 with more than one replica, got 64"):
        run(replica.__serve_build_asgi_app__())


def test_a_replica_that_ray_stops_tells_its_streams_to_go_on_elsewhere(recorder, tmp_path, monkeypatch):
    monkeypatch.setattr(replica_module, "TELL_S", 0.05)
    model, processor = taught()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    # As Ray holds it in a replica's process.
    inside = types.SimpleNamespace(_shutting_down=False)
    actors = {1: object(), 2: types.SimpleNamespace(_replica_impl=inside)}
    sys.modules["ray"]._private = types.SimpleNamespace(
        worker=types.SimpleNamespace(global_worker=types.SimpleNamespace(actors=actors))
    )
    recorder.get_replica_context = lambda: types.SimpleNamespace(world_size=1)

    async def main():
        replica = Replica(given(recorder, model=str(tmp_path), rooms=0, drain_s=0.3, max_streams=2))
        app = await replica.__serve_build_asgi_app__()
        listens = asyncio.Event()
        server = make_server(app, app.state.service, port=0, on_start=lambda url: listens.set())
        work = asyncio.create_task(server.serve())
        await asyncio.wait_for(listens.wait(), LIMIT_S)
        replica.check_health()
        from websockets.asyncio.client import connect

        address = server.url.replace("http", "ws") + "/v1/stream"
        async with connect(address) as whole:
            await say(whole, start(policy="wait-1"), source("a b c. "), END)
            written = len(words(await rest(whole)))
        # Ray is told of it, again and again.
        model = ("model", tmp_path.name)
        while Gauge.told.get(("simul_words_total", (model,))) != written > 0:
            await asyncio.sleep(0.02)
        buckets = {key for name, key in Gauge.told if name == "simul_word_seconds_bucket"}
        assert {("le", "+Inf"), model} in map(set, buckets)
        assert not [name for name, _ in Gauge.told if not name.startswith("simul_") or name.endswith("_created")]
        async with connect(address) as socket:
            await say(socket, start(policy="wait-1"), source("a b "))
            await until(socket, "word")
            inside._shutting_down = True
            messages = await rest(socket)
            assert [message["code"] for message in messages if message["type"] == "warning"] == ["draining"]
            assert (messages[-1]["code"], messages[-1]["action"]) == ("draining", "resume")
        # One that is about to end is not replaced; one whose engine has failed is.
        replica.check_health()
        app.state.service.is_draining = False
        app.state.service.served[0].engine.close()
        with pytest.raises(RuntimeError, match="an engine has ended"):
            replica.check_health()
        server.should_exit = True
        await asyncio.wait_for(work, LIMIT_S)

    run(main())
    # A Ray that has no such mark is told of, and streams run on.
    del inside._shutting_down
    assert replica_module.stop_mark() is None


def test_a_server_without_rooms_says_so_and_long_messages_are_refused_whoever_runs_the_application():
    async def main():
        async with running({"one": taught()}, rooms=0, message_bytes=2000) as server:
            for path, first in (("/v1/stream", start(room="talk")), ("/v1/rooms/talk/listen", {"type": "listen"})):
                async with server.connect(path) as socket:
                    await say(socket, first)
                    error = (await rest(socket))[-1]
                    assert (error["code"], error["action"]) == ("forbidden", "fix")
                    assert "keeps no rooms" in error["message"]
            # As Ray's proxy, which takes frames of any length.
            server.server.config.ws_max_size = 10**6
            async with server.connect() as socket:
                await say(socket, start(), source("é" * 900))
                assert (await until(socket, "started"))[-1]["type"] == "started"
                await say(socket, source("é" * 1100))
                error = (await rest(socket))[-1]
                assert (error["code"], error["action"]) == ("message_too_big", "fix")
            await server.idle()

    run(main())
