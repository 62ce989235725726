# SPDX-License-Identifier: Apache-2.0
"""`listen` with a server in place of a model: the same words as here, and a room that hears them."""

import itertools
import json

import pytest

from serving import in_thread, tiny
from speech_helpers import Loudness, say, write
from test_listen import Speaks
from transformers_simul import PlainSimulClient, ServerError, cli
from transformers_simul.serving.client.plain import PlainStream
from transformers_simul.serving.messages import Error
from transformers_simul.speech import transcribers, voice

TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def parts():
    return tiny()


@pytest.fixture
def at_hand(tmp_path, monkeypatch, parts):
    monkeypatch.chdir(tmp_path)
    model, processor = parts
    model.save_pretrained("model")
    processor.save_pretrained("model")
    monkeypatch.setattr(transcribers, "make_transcriber", lambda name, language: Speaks())
    monkeypatch.setattr(voice, "SileroVoice", Loudness)
    write("talk.wav", say([*range(12)], 1.0))
    (tmp_path / "token.txt").write_text(TOKEN)
    return tmp_path


def run(capsys, *arguments):
    status = cli.main(["listen", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def words(out):
    return [(word["text"], word["delay"]) for word in map(json.loads, out.splitlines()) if word["text"]]


def test_a_server_writes_what_the_model_would_and_a_room_hears_it(at_hand, capsys, parts):
    expected = {}
    for k in ("1", "3"):
        _, out, _ = run(capsys, "model", "--audio", "talk.wav", "--json", "--wait-k", k)
        expected[k] = words(out)
    assert expected["1"] != expected["3"]
    with in_thread({"demo": parts}, tokens=[TOKEN], policy="wait-1") as server:
        flags = [server.url, "--audio", "talk.wav", "--token-file", "token.txt"]
        # Without a flag the server's own policy counts.
        assert words(run(capsys, *flags, "--json")[1]) == expected["1"]
        expected = expected["3"]
        flags += ["--room", "talk"]
        status, out, err = run(capsys, *flags, "--json", "--wait-k", "3", "--vtt", "a.vtt", "--log", "instances.log")
        assert status == 0, err
        assert words(out) == expected != []
        for line in out.splitlines():
            word = json.loads(line)
            assert word["spoken_s"] <= word["heard_s"] <= word["elapsed_s"]
            assert not word["text"] or word["spoken_s"] > 0
        with PlainSimulClient(server.url, token=TOKEN).listen("talk") as listener:
            assert [(word.text, word.delay) for word in listener] == expected
        assert cli.main(["score", "instances.log", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["LAAL"] > 0
        assert (at_hand / "a.vtt").read_text().startswith("WEBVTT")
        status, out, err = run(capsys, server.url, "--audio", "talk.wav")
        assert (status, out) == (1, "")
        assert "unauthorized" in err
        status, _, err = run(capsys, *flags, "--policy", "wait-1", "--target-lang", "xx")
        assert status == 1


def test_a_server_that_fails_on_the_way_is_told_of(at_hand, capsys, parts, monkeypatch):
    def broken(stream):
        yield from itertools.islice(messages(stream), 1)
        raise ServerError(Error(code="total_timeout", message="It lasted too long.", remedy="start anew", action="fix"))

    messages = PlainStream.messages
    monkeypatch.setattr(PlainStream, "messages", broken)
    with in_thread({"demo": parts}) as server:
        status, out, err = run(capsys, server.url, "--audio", "talk.wav", "--json")
    assert (status, "error: total_timeout: It lasted too long." in err) == (1, True), err
    # What came before is there.
    assert len(out.splitlines()) <= 1


def test_flags_of_a_server_need_one_and_those_of_a_model_need_that(at_hand, capsys):
    for flags in (["--decoding-weights", "int8"], ["--trust-remote-code"]):
        status, _, err = run(capsys, "http://127.0.0.1:9", "--audio", "talk.wav", *flags)
        assert (status, f"{flags[0][2:]} needs a MODEL of this machine, got 'http://127.0.0.1:9'." in err) == (1, True)
    for flag, value in (("--room", "talk"), ("--token-file", "token.txt")):
        status, _, err = run(capsys, "model", "--audio", "talk.wav", flag, value)
        assert (status, f"{flag[2:]} needs a server" in err) == (1, True)
    status, _, err = run(capsys, "http://127.0.0.1:9", "--audio", "talk.wav")
    assert status == 1
    assert "no connection to" in err
