# SPDX-License-Identifier: Apache-2.0
"""A stream over a connection that was lost goes on over another one, wherever it was cut."""

import contextlib

import pytest

from serving import END, rest, run, running, say, source, start, tiny, translate, words

TEXT = "a dog runs over the meadow. two children watch him jumping today. a green dog"


@pytest.fixture(scope="module")
def parts():
    return tiny()


def kept(messages, target_lang="de"):
    """What a client keeps of a track: the counts of its last sentence that has ended, and the words after it."""
    mine = [each for each in messages if each.get("target_lang") == target_lang]
    ends = [place for place, each in enumerate(mine) if each["type"] == "sentence_end"]
    counts = ("source_words", "target_words", "sentences")
    last = {name: mine[ends[-1]][name] if ends else 0 for name in counts}
    committed = words(mine[ends[-1] + 1 :] if ends else mine)
    return {
        "target_lang": target_lang,
        **last,
        "committed": [{name: word[name] for name in ("text", "delay", "ids")} for word in committed],
    }


async def resumed(server, text, tracks, **kwargs):
    """The rest of a stream: the source that is still needed is sent again."""
    before = min(track["source_words"] for track in tracks)
    async with server.connect() as socket:
        await say(socket, start(resume={"source_words": before, "tracks": tracks}, **kwargs))
        await say(socket, source(" ".join(text.split()[before:])), END)
        return await rest(socket)


def told(messages, target_lang="de"):
    """What a client is told of a track, but for the time, and for what was READ, which a resumed stream knows less of."""
    kinds = ("word", "sentence_end")
    mine = [each for each in messages if each["type"] in kinds and each["target_lang"] == target_lang]
    return [{name: value for name, value in each.items() if name not in ("elapsed_ms", "read")} for each in mine]


@pytest.mark.parametrize("policy", ["wait-1", "wait-3"])
def test_cut_after_any_message_the_rest_is_that_of_a_stream_without_a_break(parts, policy):
    async def main():
        async with running({"one": parts}, policy=policy) as server:
            whole = await translate(server, TEXT)
            assert len([each for each in whole if each["type"] == "sentence_end"]) == 3
            for cut in range(1, len(whole)):
                rest = await resumed(server, TEXT, [kept(whole[:cut])])
                assert told(rest) == told(whole[cut:]), cut
                for name in ("sentences", "source_words", "target_words"):
                    assert rest[-1]["tracks"][0][name] == whole[-1]["tracks"][0][name], (cut, name)
                # What is READ after the break is told once, with the first word that is new.
                read = [word for each in whole[cut:-1] for word in each.get("read", [])]
                assert [word for each in rest[1:-1] for word in each.get("read", [])] == read, cut

    run(main())


def test_characters_are_counted_as_if_nothing_had_been_cut():
    """What is sent again may begin with white space between two characters, which is a unit."""
    characters = tiny(unit="char")
    text = "a dog. abcd \n run. abc ef"
    # Sentences are cut before a space.
    cut_at = {"max_sentence_words": 4}
    units = " ".join(text.split())

    async def main():
        async with running({"one": characters}) as server:
            whole = await translate(server, text, **cut_at)
            sent = set()
            for cut in range(1, len(whole)):
                track = kept(whole[:cut])
                before = track["source_words"]
                sent.add(units[before : before + 1])
                async with server.connect() as socket:
                    await say(socket, start(resume={"source_words": before, "tracks": [track]}, **cut_at))
                    # In two pieces, since the first may be all white space.
                    await say(socket, source(units[before : before + 1]), source(units[before + 1 :]), END)
                    again = await rest(socket)
                assert told(again) == told(whole[cut:]), cut
                read = [unit for each in whole[cut:-1] for unit in each.get("read", [])]
                assert [unit for each in again[1:-1] for unit in each.get("read", [])] == read, cut
                assert again[-1]["tracks"][0]["source_words"] == whole[-1]["tracks"][0]["source_words"] == len(units)
            assert " " in sent

    run(main())


def test_cut_twice(parts):
    async def main():
        async with running({"one": parts}) as server:
            whole = await translate(server, TEXT)
            first_end = next(place for place, each in enumerate(whole) if each["type"] == "sentence_end")
            once = await resumed(server, TEXT, [kept(whole[: first_end + 1])])
            # As the client sees it: what it had before, and what it got since.
            so_far = [*whole[: first_end + 1], *once]
            second_end = [place for place, each in enumerate(so_far) if each["type"] == "sentence_end"][1]
            twice = await resumed(server, TEXT, [kept(so_far[: second_end + 1])])
            assert told(twice) == told(so_far[second_end + 1 :])
            assert [each["source_words"] for each in told(twice) if each["type"] == "sentence_end"] == [15]

    run(main())


def test_tracks_that_are_in_different_sentences_go_on_together(parts):
    french = tiny(target_lang="fr", template="{source} in {target_lang}: {target}")

    async def main():
        async with running({"one": parts, "two": french}) as server:
            both = {"target_langs": ["de", "fr"]}
            whole = await translate(server, TEXT, **both)
            german = [each for each in whole if each.get("target_lang") == "de"]
            ends = [place for place, each in enumerate(german) if each["type"] == "sentence_end"]
            for cut in (ends[0] + 1, ends[1] + 1, ends[1] + 2):
                tracks = [kept(german[:cut]), kept([], "fr")]
                rest = await resumed(server, TEXT, tracks, **both)
                assert told(rest) == told(german[cut:])
                assert told(rest, "fr") == told(whole, "fr")

    run(main())


def test_into_another_server_with_the_same_model(parts):
    async def main():
        async with contextlib.AsyncExitStack() as stack:
            one, other = [await stack.enter_async_context(running({"one": each})) for each in (parts, tiny())]
            whole = await translate(one, TEXT)
            cut = len(whole) // 2
            assert told(await resumed(other, TEXT, [kept(whole[:cut])])) == told(whole[cut:])

    run(main())
