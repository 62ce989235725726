# SPDX-License-Identifier: Apache-2.0
"""The server, on a loopback port, with tiny models: streams, resume, limits, rooms, HTTP, the end."""

import asyncio
import contextlib
import json
import logging
import signal

import anyio
import httpx
import pytest
from websockets.exceptions import InvalidStatus

from serving import END, rest, run, running, say, source, start, taught, tiny, translate, until, words
from transformers_simul import StreamEngine
from transformers_simul.cli.serve import assemble, named_segmenters
from transformers_simul.serving.failure import Failure
from transformers_simul.serving.messages import SERVER_MESSAGES, Start
from transformers_simul.serving.metrics import Metrics
from transformers_simul.serving.models import serve_models
from transformers_simul.serving.service import Service
from transformers_simul.serving.session import Session
from transformers_simul.serving.settings import Settings
from transformers_simul.serving.tokens import Principal, Tokens, bearer
from transformers_simul.streaming.segmenter import Segmenter
from transformers_simul.streaming.streamer import SimulStreamer

TEXT = "a dog runs over the meadow. two children watch him jumping today. a green dog"
TOKEN, OTHER, LISTENS = "0123456789abcdef", "another-token-of-many", "who-may-listen-only"


def alone(parts, text, policy="wait-1", **kwargs):
    """What the engine itself writes."""
    with StreamEngine(*parts, max_streams=1, max_tokens=256) as engine:
        stream = engine.open(policy, **{"sentences": True, "max_sentence_words": 60, "max_new_tokens": 12} | kwargs)
        stream.source.put(text)
        stream.source.end()
        return [(word.text, word.delay) for word in stream.words]


def shown(messages):
    return [(word["text"], word["delay"]) for word in words(messages)]


@pytest.fixture(scope="module")
def parts():
    return tiny()


class TestStreams:
    def test_words_are_those_of_the_engine_and_say_what_they_answer(self, parts):
        async def main():
            async with running({"one": parts}) as server, server.connect() as socket:
                await say(socket, start(policy="wait-2"))
                (started,) = await until(socket, "started")
                assert (started["models"], started["unit"], started["policy"]) == ({"de": "one"}, "word", "wait-2")
                for number, word in enumerate(TEXT.split()):
                    await say(
                        socket, source(word[:1], at_ms=10.0 * number), source(f"{word[1:]} ", at_ms=10.0 * number)
                    )
                await say(socket, END)
                messages = await rest(socket)
                assert socket.close_code == 1000
            for message in messages:
                SERVER_MESSAGES.validate_json(json.dumps(message))
            assert shown(messages) == alone(parts, TEXT, "wait-2")
            assert [word["index"] for word in words(messages)] == [*range(len(words(messages)))]
            # All that was read, in order; and when it had come.
            read = [each for message in messages if message["type"] != "end" for each in message["read"]]
            assert read == TEXT.split()
            for word in words(messages):
                assert word["source_at_ms"] == 10.0 * (word["delay"] - 1)
            ends = [message for message in messages if message["type"] == "sentence_end"]
            assert [(end["sentences"], end["source_words"]) for end in ends] == [(1, 6), (2, 12), (3, 15)]
            assert messages[-1]["type"] == "end"
            assert messages[-1]["tracks"][0]["source_words"] == 15

        run(main())

    def test_without_sentences_all_is_one_row(self, parts):
        async def main():
            async with running({"one": parts}) as server:
                messages = await translate(server, "a dog. runs over", sentences=False)
            assert {message["type"] for message in messages} == {"started", "word", "end"}
            assert shown(messages) == alone(parts, "a dog. runs over", sentences=False, max_sentence_words=None)

        run(main())

    def test_the_client_ends_sentences_and_samples_with_a_seed(self, parts):
        async def main():
            sampled = {"options": {"max_new_tokens": 6, "do_sample": True, "temperature": 2.0, "seed": 5}}
            async with running({"one": parts}) as server:
                async with server.connect() as socket:
                    await say(socket, start(), source("a dog"), {"type": "end_sentence"}, source("two children"), END)
                    messages = await rest(socket)
                once = await translate(server, "a dog runs", **sampled)
                again = await translate(server, "a dog runs", **sampled)
                sampled["options"]["seed"] = 6
                other = await translate(server, "a dog runs", **sampled)
            ends = [message["source_words"] for message in messages if message["type"] == "sentence_end"]
            assert ends == [2, 4]
            assert shown(once) == shown(again) != shown(other)

        run(main())

    def test_many_at_once_are_as_alone(self, parts):
        texts = [TEXT, "two children", "a dog runs over", "him jumping remarkably high today."]

        async def main():
            async with running({"one": parts}) as server:
                got = await asyncio.gather(*(translate(server, text) for text in texts * 2))
                await server.idle()
            assert [shown(messages) for messages in got] == [alone(parts, text) for text in texts] * 2

        run(main())

    def test_cancel_ends_with_that_reason_and_frees_the_place(self, parts):
        async def main():
            async with running({"one": parts}, max_streams=1) as server:
                async with server.connect() as socket:
                    await say(socket, start(), source("a dog "), {"type": "cancel"})
                    assert (await rest(socket))[-1]["reason"] == "cancelled"
                await server.idle()
                # Gone without a word.
                async with server.connect() as socket:
                    await say(socket, start(), source("a dog "))
                    await until(socket, "started")
                    socket.transport.abort()
                await server.idle()
                assert (await translate(server, "a dog"))[-1]["type"] == "end"

        run(main())

    def test_pings_are_answered_and_pieces_may_be_anything(self, parts):
        async def main():
            async with running({"one": parts}) as server, server.connect() as socket:
                await say(
                    socket, start(), {"type": "ping", "id": 7}, source(""), source(" \n\t"), source("\u00a0!\u202f")
                )
                assert (await until(socket, "pong"))[-1] == {"type": "pong", "id": 7}
                await say(socket, source(" 犬が走る。 🐕‍🦺\x00"), END, {"type": "ping"})
                assert (await rest(socket))[-1]["type"] in ("end", "pong")

        run(main())

    @pytest.mark.parametrize("unit", ["char", "token"])
    def test_other_units(self, unit):
        async def main():
            async with running({"one": tiny(unit=unit)}) as server:
                messages = await translate(server, "a dog. two")
            assert messages[0]["unit"] == unit
            assert messages[-1]["type"] == "end"
            if unit == "char":
                read = [each for message in messages[1:-1] for each in message["read"]]
                assert "".join(read) == "a dog. two"

        run(main())

    def test_several_targets_from_one_source(self, parts):
        other = tiny(target_lang="fr", template="{source} in {target_lang}: {target}")

        async def main():
            async with running({"one": parts, "two": other}) as server:
                messages = await translate(server, TEXT, target_langs=["fr", "de"])
                assert messages[0]["models"] == {"fr": "two", "de": "one"}
                for language, each in (("de", parts), ("fr", other)):
                    mine = [message for message in words(messages) if message["target_lang"] == language]
                    assert shown(mine) == alone(each, TEXT)
                for wrong in ({"target_langs": ["it"]}, {"model": "three"}, {"source_lang": "ja"}):
                    error = (await translate(server, "a", **wrong))[-1]
                    assert (error["code"], error["action"]) == ("unknown_model", "fix")
                assert (await translate(server, "a", target_langs=["de", "de"]))[-1]["code"] == "bad_message"
                # One of two places is missing: the other is given free again.
                await server.idle()

        run(main())


def test_a_server_whose_own_policy_streams_may_not_follow_does_not_start(parts):
    for policy, message in (("hold-20", "drafts at most 16 words"), ("weit-3", "policy must be one of")):
        with pytest.raises(ValueError, match=message):
            Service(serve_models({"one": parts}, Metrics()), Settings(policy=policy))


class TestRefusals:
    @pytest.mark.parametrize(
        ("messages", "code"),
        [
            (["no json"], "bad_message"),
            ([b"bytes"], "bad_message"),
            ([source("a")], "bad_order"),
            ([start(), start()], "bad_order"),
            ([start(), END, source("a")], "bad_order"),
            ([start(), {"type": "cancel"}, {"type": "end_sentence"}], "bad_order"),
            ([start(version=2)], "bad_version"),
            ([start(policy="nonsense")], "bad_policy"),
            ([start(policy="hold-99999")], "bad_policy"),
            ([start(policy="agree-2:max=99")], "bad_policy"),
            ([start(options={"repetition_penalty": 0.5, "top_k": 3, "max_new_tokens": 9999})], "bad_message"),
            ([start(sentences=False, max_sentence_words=3), "{"], "bad_message"),
            ([start(), source("a " * 3000)], "too_much_waiting"),
        ],
    )
    def test_each_says_its_code_and_leaves_nothing(self, parts, messages, code):
        async def main():
            async with running({"one": parts}) as server:
                async with server.connect() as socket:
                    for message in messages:
                        await socket.send(message if isinstance(message, (str, bytes)) else json.dumps(message))
                    *_, error = await rest(socket)
                    assert socket.close_code in (1008, 1012)
                if messages[-1] == {"type": "end_sentence"}:
                    # Its end may have been under way.
                    assert error["type"] == "end" or error["code"] == code
                else:
                    assert (error["type"], error["code"]) == ("error", code)
                    assert error["remedy"]
                await server.idle()
                assert "Traceback" not in json.dumps(error)

        run(main())

    def test_a_full_server_refuses_at_once_and_says_when(self, parts):
        async def main():
            async with running({"one": parts}, max_streams=1) as server, server.connect() as holder:
                await say(holder, start())
                await until(holder, "started")
                error = (await translate(server, "a"))[-1]
                assert (error["code"], error["action"], error["retry_after_s"]) == ("full", "retry", 5.0)
                async with httpx.AsyncClient(base_url=server.url) as client:
                    answer = await client.post("/v1/translate", json={"text": "a"})
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
                assert 'simul_refusals_total{code="full"} 2.0' in server.service.metrics.text().decode()

        run(main())

    def test_words_count_also_where_the_first_target_language_is_over(self, parts):
        async def main():
            models = {"de": parts, "nl": tiny(target_lang="nl")}
            served = serve_models(models, Metrics(), 1, 64)
            session = Session(served, Start(), Settings(burst_words=2, words_per_second=0.001), Metrics(), {})
            session.tracks[0].close()
            with pytest.raises(Failure, match="More source than 0.001 words a second"):
                session.put("a dog runs ")

        run(main())

    def test_too_fast_idle_total_and_frames_that_are_too_big(self, parts):
        async def main():
            async with running({"one": parts}, burst_words=20, words_per_second=0.001) as server:
                error = (await translate(server, "a " * 21))[-1]
                assert (error["code"], error["action"]) == ("too_fast", "resume")
                async with server.connect() as socket:
                    await say(socket, start(), source("x" * 70_000))
                    await rest(socket)
                    assert socket.close_code == 1009
                await server.idle()
            async with running({"one": parts}, idle_s=0.3) as server, server.connect() as socket:
                await say(socket, start())
                error = (await rest(socket))[-1]
                assert (error["code"], error["action"]) == ("idle_timeout", "resume")
            async with running({"one": parts}, total_s=0.3) as server, server.connect() as socket:
                await say(socket, start())
                assert (await rest(socket))[-1]["code"] == "total_timeout"
            async with running({"one": parts}, start_s=0.3) as server, server.connect() as socket:
                assert (await rest(socket))[-1]["code"] == "idle_timeout"

        run(main())

    def test_an_error_inside_is_logged_and_not_shown(self, parts, monkeypatch, caplog):
        async def main():
            async with running({"one": parts}) as server:

                def fail(self, *args):
                    raise RuntimeError("the secret of the house")

                monkeypatch.setattr(SimulStreamer, "word", fail)
                error = (await translate(server, "a dog runs"))[-1]
                assert error["code"] == "internal"
                assert "secret" not in json.dumps(error)
                monkeypatch.undo()
                assert (await translate(server, "a dog runs"))[-1]["type"] == "end"

        with caplog.at_level(logging.ERROR):
            run(main())
        assert "the secret of the house" in caplog.text

    def test_a_client_who_does_not_read_is_dropped_alone(self, parts):
        async def main():
            async with running({"one": parts}, unsent_messages=3) as server:
                quick = asyncio.create_task(translate(server, "a dog"))
                # A connection whose socket takes nothing holds such a session, and takes none of its messages.
                wanted = Start(options={"max_new_tokens": 100})
                session = server.service.open(wanted, Principal("one that does not read"))
                session.put("a dog runs over " * 20)
                session.end()
                with anyio.fail_after(30):
                    while session.unsent <= 3:
                        await asyncio.sleep(0.01)
                with pytest.raises(Failure, match="Too many messages wait") as failed:
                    async for _ in session.messages():
                        pass
                assert failed.value.code == "slow_reader"
                assert session.tracks[0].source.is_cancelled
                server.service.release(session)
                assert (await quick)[-1]["type"] == "end"

        run(main())


class TestTokens:
    def test_who_may_come(self, parts, caplog):
        async def main():
            tokens = [TOKEN, f"{OTHER}  ", f"{LISTENS} listen", "", "# nobody"]
            async with running({"one": parts}, tokens=tokens, streams_per_token=1) as server:
                assert (await translate(server, "a"))[-1]["code"] == "unauthorized"
                assert (await translate(server, "a", token="wrong"))[-1]["code"] == "unauthorized"
                assert (await translate(server, "a", token="# nobody"))[-1]["code"] == "unauthorized"
                assert (await translate(server, "a", token=LISTENS))[-1]["code"] == "forbidden"
                assert (await translate(server, "a", token=TOKEN))[-1]["type"] == "end"
                await server.idle()
                header = {"Authorization": f"Bearer {TOKEN}"}
                async with server.connect(additional_headers=header) as socket:
                    await say(socket, start())
                    await until(socket, "started")
                    assert (await translate(server, "a", token=TOKEN))[-1]["code"] == "too_many_streams"
                    assert (await translate(server, "a", token=OTHER))[-1]["type"] == "end"
                async with server.connect(additional_headers={"Authorization": "Bearer wrong"}) as socket:
                    assert (await rest(socket))[-1]["code"] == "unauthorized"
                async with httpx.AsyncClient(base_url=server.url) as client:
                    for path in ("/v1/models", "/metrics", "/v1/rooms/x", "/v1/rooms/x/de.srt"):
                        assert (await client.get(path)).status_code == 401, path
                    answer = await client.post("/v1/translate", json={"text": "a"})
                    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
                    assert (await client.get("/v1/models", headers=header)).status_code == 200
                    assert (await client.get("/healthz")).text == "ok\n"

        with caplog.at_level(logging.DEBUG):
            run(main())
        assert TOKEN not in caplog.text.replace(f"Bearer {TOKEN}", "") or "transformers_simul" not in {
            record.name.split(".")[0] for record in caplog.records if TOKEN in record.getMessage()
        }

    @pytest.mark.parametrize("line", ["short", f"{TOKEN} speak", f"{TOKEN} listen more"])
    def test_a_line_that_is_no_token_is_named_by_its_number_alone(self, line):
        with pytest.raises(ValueError, match="line 2 is something else") as error:
            Tokens(["# first", line])
        assert line.split()[0] not in str(error.value)

    def test_headers(self):
        assert bearer("Bearer x ") == bearer("bearer x") == "x"
        assert bearer(None) is bearer("Basic x") is None
        with pytest.raises(Failure):
            Tokens([TOKEN]).check("")
        with pytest.raises(ValueError, match="burst_words must be above 0"):
            Settings(burst_words=0)


class TestOrigins:
    def test_other_pages_and_names_are_refused(self, parts):
        async def main():
            async with running({"one": parts}, origins=["https://captions.example"]) as server:
                for origin in ("https://evil.example", "null", "http://[", server.url + ".evil.example"):
                    with pytest.raises(InvalidStatus) as refused:
                        await server.connect(origin=origin)
                    assert refused.value.response.status_code == 403
                for origin in ("https://captions.example", server.url):
                    async with server.connect(origin=origin) as socket:
                        await say(socket, start(), END)
                        assert (await rest(socket))[-1]["type"] == "end"
                async with httpx.AsyncClient(base_url=server.url) as client:
                    answer = await client.get("/healthz", headers={"Origin": "https://evil.example"})
                    assert answer.status_code == 403
                    assert (await client.get("/healthz", headers={"Host": "evil.example"})).status_code == 421
                    answer = await client.get("/v1/models", headers={"Origin": "https://captions.example"})
                    assert answer.headers["access-control-allow-origin"] == "https://captions.example"
                    assert answer.headers["x-content-type-options"] == "nosniff"
                    assert "default-src 'none'" in answer.headers["content-security-policy"]

        run(main())


class TestPolicy:
    def test_a_model_says_what_it_is_made_for_and_the_operator_decides(self):
        models = {name: tiny() for name in ("one", "two", "three")}
        models["one"][0].generation_config.wait_k = 2
        models["two"][0].generation_config.default_policy = "chunk-2-1"

        async def policies(**settings):
            async with running(models, **settings) as server, httpx.AsyncClient(base_url=server.url) as client:
                listed = {each["id"]: each["policy"] for each in (await client.get("/v1/models")).json()["models"]}
                for name, policy in listed.items():
                    async with server.connect() as socket:
                        await say(socket, start(model=name))
                        (started,) = await until(socket, "started")
                        assert started["policy"] == policy
            return listed

        assert run(policies(policy=None)) == {"one": "wait-2", "two": "chunk-2-1", "three": "wait-3"}
        assert set(run(policies(policy="wait-5")).values()) == {"wait-5"}
        for policy, reason in (
            ("hold-50", "drafts at most .* words, got 'hold-50'"),
            ("alignatt-2", "alignment_heads"),
        ):
            models["two"][0].generation_config.default_policy = policy
            with pytest.raises(ValueError, match=f"policy of model 'two' cannot be followed: .*{reason}"):
                run(policies(policy=None))

    @pytest.mark.parametrize(("one", "two", "followed"), [(2, 2, "wait-2"), (2, 1, "wait-3"), (2, None, "wait-3")])
    def test_models_that_share_a_source_share_a_policy(self, one, two, followed):
        models = {"one": tiny(), "two": tiny(target_lang="fr")}
        for (model, _), k in zip(models.values(), (one, two), strict=True):
            model.generation_config.wait_k = k

        async def main():
            async with running(models, policy=None) as server, server.connect() as socket:
                await say(socket, start(target_langs=["de", "fr"]))
                (started,) = await until(socket, "started")
                assert started["policy"] == followed

        run(main())


class TestPunctuation:
    """Source without punctuation and capitals."""

    SAID, WRITTEN = "a dog runs two children watch him", "A dog runs. Two children watch him."

    @staticmethod
    def says_two(words, following):
        return following == "two"

    def test_it_is_added_where_the_segmenter_says_and_at_each_end_of_a_sentence(self, parts):
        async def main():
            async with running({"one": parts}, segmenters={"": self.says_two}) as server:
                async with server.connect() as socket:
                    await say(socket, start(add_punctuation=True))
                    for letter in self.SAID:
                        await say(socket, source(letter))
                    await say(socket, {"type": "end_sentence"}, source("a dog"), END)
                    messages = await rest(socket)
                # It goes on after the first sentence.
                resume = {"source_words": 3, "tracks": [{"source_words": 3, "target_words": 9, "sentences": 1}]}
                again = await translate(server, "two children watch him", add_punctuation=True, resume=resume)
                body = {"text": self.SAID, "options": {"max_new_tokens": 12}, "add_punctuation": True}
                async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
                    whole = (await client.post("/v1/translate", json=body)).json()
            return messages, again, whole

        messages, again, whole = run(main())
        expected = alone(parts, f"{self.WRITTEN} A dog.")
        assert shown(messages) == expected
        ends = [message["source_words"] for message in messages if message["type"] == "sentence_end"]
        assert ends == [3, 7, 9]
        read = [word for message in messages for word in message.get("read", [])]
        assert " ".join(read) == f"{self.WRITTEN} A dog."
        assert shown(again) == [(text, delay) for text, delay in expected if 3 < delay <= 7]
        assert [(word["text"], word["delay"]) for word in whole["words"]] == alone(parts, self.WRITTEN)

    def test_segmenters_are_those_of_the_source_language(self, parts):
        async def ends(segmenters):
            async with running({"one": parts}, segmenters=segmenters) as server:
                messages = await translate(server, self.SAID, add_punctuation=True)
            return [message["source_words"] for message in messages if message["type"] == "sentence_end"]

        async def main():
            never = {"": lambda words, following: False}
            return [await ends(each) for each in ({"en": self.says_two} | never, {"nl": self.says_two} | never, {})]

        assert run(main()) == [[3, 7], [7], [7]]

    def test_what_cannot_be(self, parts):
        async def main():
            async with running({"one": tiny(unit="char")}) as server:
                (error,) = await translate(server, "a", add_punctuation=True)
                assert (error["code"], "needs a model of words" in error["message"]) == ("bad_option", True)
            async with running({"one": parts}, waiting_words=20) as server:
                messages = await translate(server, "a" * 30, add_punctuation=True)
                assert messages[-1]["code"] == "too_much_waiting"

        run(main())

    def test_what_a_segmenter_raises_ends_its_stream_alone(self, parts, caplog):
        def breaks(words, following):
            raise KeyError("the secret of the house")

        async def main():
            async with running({"one": parts}, segmenters={"": breaks}) as server:
                async with server.connect() as other:
                    await say(other, start(), source("a dog "))
                    (*_, error) = await translate(server, self.SAID, add_punctuation=True)
                    await say(other, END)
                    messages = await rest(other)
                body = {"text": self.SAID, "add_punctuation": True}
                async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
                    answer = await client.post("/v1/translate", json=body)
                await server.idle()
            return error, messages, answer

        error, messages, answer = run(main())
        assert (error["code"], answer.status_code, answer.json()["error"]["code"]) == ("internal", 500, "internal")
        assert "secret" not in str(error) + answer.text
        assert len([record for record in caplog.records if record.exc_info and record.exc_info[0] is KeyError]) == 2
        assert shown(messages) == alone(parts, "a dog")

    def test_words_come_when_they_came_not_when_they_were_certain(self, parts):
        async def main():
            async with running({"one": parts}) as server, server.connect() as socket:
                await say(socket, start(add_punctuation=True, policy="full"))
                await say(socket, *[source(f"{word} ", at_ms=100 + n) for n, word in enumerate(self.SAID.split())], END)
                return words(await rest(socket))

        assert {word["source_at_ms"] for word in run(main())} == {106}

    def test_a_source_with_ends_of_its_own_goes_on_as_it_was(self):
        parts = taught()
        said = "a dog runs. two children watch him"

        async def main():
            async with running({"one": parts}) as server:
                messages = await translate(server, said, add_punctuation=True)
                end = next(message for message in messages if message["type"] == "sentence_end")
                counts = {name: end[name] for name in ("source_words", "target_words", "sentences")}
                resume = {"source_words": 3, "tracks": [counts]}
                return messages, await translate(server, said[12:], add_punctuation=True, resume=resume)

        messages, again = run(main())
        read = [word for message in messages for word in message.get("read", [])]
        assert " ".join(read) == self.WRITTEN
        assert shown(again) == [(text, delay) for text, delay in shown(messages) if delay > 3] != []

    @pytest.mark.parametrize("end", [Session.end_sentence, Session.end])
    def test_too_much_that_waits_at_the_end_is_told(self, parts, end):
        async def main():
            # Its engine does not run: nothing is read.
            served = serve_models({"one": parts}, Metrics(), 1, 64)
            session = Session(served, Start(add_punctuation=True), Settings(waiting_words=2), Metrics(), {})
            session.put("a dog ")
            session.put("runs ")
            with pytest.raises(Failure, match="More than 2 source words, or characters"):
                end(session)

        run(main())

    def test_files_of_segmenters(self, parts, tmp_path):
        assert named_segmenters(["a", "en=b", "fr=c"]) == {"": "a", "en": "b", "fr": "c"}
        with pytest.raises(ValueError, match="segmenter must be one for each language"):
            named_segmenters(["en=a", "en=b"])
        limits = {"max_streams": 1, "max_tokens": 64, "trust_remote_code": False, "decoding_weights": "stored"}
        limits |= {"origins": [], "host_names": []}
        with pytest.raises(ValueError, match=r"segmenter must be a file that Segmenter.save has written, got 'none'"):
            assemble({}, Settings(), Tokens([]), segmenters=["en=none"], **limits)
        model, processor = parts
        model.save_pretrained(tmp_path / "model")
        processor.save_pretrained(tmp_path / "model")
        Segmenter.train(["It rains.", "We stay."]).save(tmp_path / "segmenter")
        models = {"one": str(tmp_path / "model")}
        with pytest.raises(ValueError, match=r"of a source language of a model, \['en'\], got \['eng'\]"):
            assemble(models, Settings(), Tokens([]), segmenters=[f"eng={tmp_path / 'segmenter'}"], **limits)


class TestHttp:
    def test_a_text_is_answered_whole_or_as_events(self, parts):
        async def main():
            async with running({"one": parts}) as server, httpx.AsyncClient(base_url=server.url, timeout=60) as client:
                body = {"text": TEXT, "target_lang": "de", "options": {"max_new_tokens": 12}}
                answer = (await client.post("/v1/translate", json=body)).json()
                assert shown(answer["words"]) == alone(parts, TEXT)
                assert answer["text"] == " ".join(word["text"] for word in answer["words"])
                assert (answer["model"], answer["reason"]) == ("one", answer["reason"])
                events = (await client.post("/v1/translate", json=body | {"stream": True})).text
                data = [line.removeprefix("data: ") for line in events.splitlines() if line.startswith("data: ")]
                assert shown([json.loads(each) for each in data]) == alone(parts, TEXT)
                again = await client.post("/v1/translate", json=body, headers={"Accept": "text/event-stream"})
                assert again.headers["content-type"].startswith("text/event-stream")
                await server.idle()
                assert (await client.get("/v1/models")).json()["models"][0]["id"] == "one"
                assert (await client.get("/readyz")).status_code == 200
                metrics = (await client.get("/metrics")).text
                assert 'simul_opened_streams_total{model="one"} 3.0' in metrics
                assert "simul_word_seconds_bucket" in metrics

        run(main())

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            (b"{", 422, "bad_message"),
            (b"[]", 422, "bad_message"),
            (b'{"text": 3}', 422, "bad_message"),
            (b'{"text": "a", "more": 1}', 422, "bad_message"),
            (b'{"text": "\\ud800"}', 422, "bad_message"),
            (b'{"text": "a", "model": "none"}', 404, "unknown_model"),
            (b'{"text": "a", "policy": "none"}', 422, "bad_policy"),
            (b'{"text": "' + b"a " * 2500 + b'"}', 413, "message_too_big"),
            (b'{"text": "' + b"a" * 70_000 + b'"}', 413, "message_too_big"),
        ],
    )
    def test_what_is_wrong_with_a_request(self, parts, body, status, code):
        async def main():
            async with running({"one": parts}) as server, httpx.AsyncClient(base_url=server.url) as client:
                headers = {"Content-Type": "application/json"}
                answer = await client.post("/v1/translate", content=body, headers=headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text

                async def pieces():
                    for place in range(0, len(body), 1000):
                        yield body[place : place + 1000]

                answer = await client.post("/v1/translate", content=pieces(), headers=headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
                assert (await client.get("/nowhere")).json()["error"]["code"] == "not_found"
                assert (await client.get("/v1/translate")).status_code == 405
                await server.idle()

        run(main())

    def test_a_client_that_leaves_gives_its_place_free(self, parts):
        async def main():
            async with running({"one": parts}, max_tokens=4000, sentence_words=1000) as server:
                body = {"text": "a dog runs over " * 100, "options": {"max_new_tokens": 3000}}
                async with httpx.AsyncClient(base_url=server.url) as client:
                    work = asyncio.create_task(client.post("/v1/translate", json=body))
                    while not server.service.sessions:
                        await asyncio.sleep(0.01)
                    work.cancel()
                    await asyncio.gather(work, return_exceptions=True)
                    await server.idle()
                    async with client.stream("POST", "/v1/translate", json=body | {"stream": True}) as answer:
                        async for _ in answer.aiter_lines():
                            break
                    await server.idle()

        run(main())

    def test_a_request_that_never_ends_is_given_up(self, parts):
        async def main():
            async with running({"one": parts}, start_s=0.3) as server:
                host, port = server.url.removeprefix("http://").split(":")
                for sent in (
                    b"",
                    b"GET / HT",
                    b"POST /v1/translate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{",
                ):
                    reader, writer = await asyncio.open_connection(host, port)
                    writer.write(sent)
                    with contextlib.suppress(ConnectionResetError):
                        await reader.read()
                    writer.close()

        run(main())


class TestRooms:
    def test_who_listens_gets_all_early_or_late(self, parts):
        async def main():
            async with running({"one": parts}) as server:
                path = "/v1/rooms/talk/listen"
                async with server.connect(path) as early, server.connect() as speaker:
                    await say(early, {"type": "listen"}, {"type": "ping", "id": 2})
                    (state, pong) = [json.loads(await early.recv()) for _ in range(2)]
                    assert {state["type"], pong["type"]} == {"room", "pong"}
                    await say(speaker, start(room="talk"), source("a dog runs. two "))
                    heard = await until(speaker, "sentence_end")
                    assert (await translate(server, "a", room="talk"))[-1]["code"] == "room_taken"
                    async with server.connect(path) as late:
                        await say(late, {"type": "listen", "target_langs": ["de"], "after": {"de": 1}})
                        await say(speaker, source("children"), END)
                        heard += await rest(speaker)
                        got_late, got_early = await rest(late), await rest(early)
                assert [m["state"] for m in got_early if m["type"] == "room"] == ["live", "ended"]
                said = [m["text"] for m in words(heard)]
                assert [m["text"] for m in words(got_early)] == said
                assert [m["text"] for m in words(got_late)] == said[1:]
                assert all(not m["ids"] for m in words(got_late))
                # After the end too.
                async with server.connect(path) as socket:
                    await say(socket, {"type": "listen"})
                    after = await rest(socket)
                assert [m["text"] for m in words(after)] == said
                assert (after[0]["state"], after[-1]["state"]) == ("live", "ended")
                async with httpx.AsyncClient(base_url=server.url) as client:
                    srt = (await client.get("/v1/rooms/talk/de.srt")).text
                    assert srt.startswith("1\n00:00:0")
                    vtt = await client.get("/v1/rooms/talk/de.vtt?live=1")
                    assert vtt.text.startswith("WEBVTT\n")
                    assert vtt.headers["content-type"].startswith("text/vtt")
                    assert (await client.get("/v1/rooms/talk/fr.srt")).status_code == 404
                    assert (await client.get("/v1/rooms/none")).status_code == 404
                    assert (await client.get("/v1/rooms/talk")).json()["state"] == "ended"

        run(main())

    def test_rooms_and_listeners_are_bounded_and_forgotten(self, parts):
        async def main():
            async with running({"one": parts}, rooms=1, listeners=1, room_s=0.2) as server:
                async with server.connect("/v1/rooms/a/listen") as first:
                    await say(first, {"type": "listen"})
                    await until(first, "room")
                    for path in ("/v1/rooms/a/listen", "/v1/rooms/b/listen"):
                        async with server.connect(path) as second:
                            await say(second, {"type": "listen"})
                            assert (await rest(second))[-1]["code"] == "room_full"
                while len(server.service.rooms):
                    server.service.rooms.sweep()
                    await asyncio.sleep(0.01)
                with pytest.raises(InvalidStatus):
                    await server.connect("/v1/rooms/a%20b/listen")

        run(main())


class TestEnd:
    def test_sigterm_lets_streams_finish_and_sends_the_others_elsewhere(self, parts):
        async def main():
            async with running({"one": parts}, drain_s=60.0) as server:
                async with (
                    server.connect() as finishes,
                    server.connect() as stays,
                    server.connect("/v1/rooms/r/listen") as listener,
                ):
                    await say(listener, {"type": "listen"})
                    for socket in (finishes, stays):
                        await say(socket, start(), source("a dog "))
                        await until(socket, "started")
                    server.server.handle_exit(signal.SIGTERM, None)
                    for socket in (finishes, stays):
                        warning = (await until(socket, "warning"))[-1]
                        assert (warning["code"], warning["seconds"]) == ("draining", 60.0)
                    error = (await translate(server, "a"))[-1]
                    assert (error["code"], error["action"]) == ("draining", "resume")
                    async with httpx.AsyncClient(base_url=server.url) as client:
                        assert (await client.get("/readyz")).status_code == 503
                    await say(finishes, END)
                    assert (await rest(finishes))[-1]["type"] == "end"
                    # As if its time were up, which no machine is too slow for: test_client.py waits for that.
                    server.service.stop_all()
                    error = (await rest(stays))[-1]
                    assert (error["code"], error["action"]) == ("draining", "resume")
                    assert stays.close_code == 1012
                    assert (await rest(listener))[-1]["code"] == "draining"
                while not server.server.should_exit:
                    await asyncio.sleep(0.01)

        run(main())
