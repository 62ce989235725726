# SPDX-License-Identifier: Apache-2.0
"""The HTTP API against its own description, by schemathesis: whatever is asked for, right or wrong, no answer 500, and
each answer's status, type and body are those that `/openapi.json` promises.

`SIMUL_FUZZ_EXAMPLES=2000 pytest -s tests/test_openapi.py` sends thousands of requests and prints how they were answered.
"""

import asyncio
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving import LIMIT_S, in_thread, tiny, translate

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis needs Python 3.11")

EXAMPLES = int(os.environ.get("SIMUL_FUZZ_EXAMPLES", "25"))
# A room that has ended, whose subtitles are there.
ROOM = {"room": "talk", "language": "de"}


@pytest.fixture(scope="module")
def schema():
    patient = dict.fromkeys(("start_s", "send_s", "idle_s", "room_s"), 4 * LIMIT_S)
    with in_thread({"one": tiny()}, max_streams=2, **patient) as server:
        said = asyncio.run(translate(server, "a dog runs.", room=ROOM["room"]))
        assert said[-1]["type"] == "end"
        yield schemathesis.openapi.from_url(f"{server.url}/openapi.json")


@pytest.fixture(scope="module")
def requests(schema):
    """By mode, requests of every operation; half of those to rooms are to one that there is."""
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 7
    made = {}
    for mode in schemathesis.GenerationMode:
        strategies = []
        for operation in operations:
            names = {parameter.name for parameter in operation.path_parameters}
            strategies.append(operation.as_strategy(generation_mode=mode))
            if names & {*ROOM}:
                fixed = {name: value for name, value in ROOM.items() if name in names}
                strategies.append(operation.as_strategy(generation_mode=mode, path_parameters=fixed))
        # A request without parameters cannot be wrong.
        made[mode] = [strategy for strategy in strategies if not strategy.is_empty]
    return {mode: st.one_of(strategies) for mode, strategies in made.items()}


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
@settings(max_examples=4 * EXAMPLES, database=None, derandomize=True, suppress_health_check=[*HealthCheck])
@given(data=st.data())
def test_every_answer_is_one_that_the_description_promises(requests, counts, mode, data):
    case = data.draw(requests[mode])
    response = case.call(timeout=LIMIT_S)
    counts[f"{case.operation.label} {mode.value} {response.status_code}"] += 1
    # What only the model knows, such as which policies it can follow, is right in the schema and refused all the same.
    excluded = [schemathesis.checks.positive_data_acceptance]
    if response.status_code == 413:
        # A refusal too, which that check does not expect.
        excluded.append(schemathesis.checks.negative_data_rejection)
    case.validate_response(response, excluded_checks=excluded)
    assert response.status_code < 500
    if mode is schemathesis.GenerationMode.POSITIVE and response.status_code >= 400:
        error = response.json()["error"]
        # To JSON Schema 3.0 is an integer.
        assert error["code"] != "bad_message" or error["message"].endswith("Input should be a valid integer"), error
