# SPDX-License-Identifier: Apache-2.0
"""The protocol's messages, their schema and the page that shows them."""

import json
import re
import runpy
from pathlib import Path

import pytest
from pydantic import ValidationError

from transformers_simul.serving import messages
from transformers_simul.serving.messages import CLIENT_MESSAGES, LISTENER_MESSAGES, SERVER_MESSAGES, what_is_wrong

DOCS = Path(__file__).parents[1] / "docs"


def test_the_schema_is_that_of_the_models():
    tool = runpy.run_path(str(DOCS / "tools" / "protocol.py"))
    assert (DOCS / "protocol.schema.json").read_text() == tool["schema"](), "run docs/tools/protocol.py"


def test_every_message_of_the_page_is_one():
    page = (DOCS / "protocol.md").read_text()
    blocks = re.findall(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    decoder, seen = json.JSONDecoder(), []
    for block in blocks:
        text = block.strip()
        while text:
            message, end = decoder.raw_decode(text)
            adapter = (
                SERVER_MESSAGES if message["type"] in ("started", "word", "sentence_end", "end") else CLIENT_MESSAGES
            )
            adapter = CLIENT_MESSAGES if message == {"type": "end"} else adapter
            seen.append(adapter.validate_json(json.dumps(message)).type)
            text = text[end:].strip()
    assert seen.count("start") == 2
    assert {"source", "end", "started", "word", "sentence_end"} <= set(seen)
    for adapter in (CLIENT_MESSAGES, SERVER_MESSAGES, LISTENER_MESSAGES):
        for name in re.findall(r"'const': '(\w+)'", str(adapter.json_schema())):
            assert f"`{name}`" in page, name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"type": "no"}',
        '{"type": "start", "version": "1"}',
        '{"type": "start", "polcy": "wait-3"}',
        '{"type": "start", "room": "../etc"}',
        '{"type": "start", "options": {"temperature": NaN}}',
        '{"type": "source"}',
        '{"type": "source", "text": 3}',
        '{"type": "source", "text": "\\ud800"}',
        '{"type": "ping", "id": -1}',
        "[" * 100_000,
    ],
)
def test_what_is_no_message_is_refused_in_a_short_line(text):
    with pytest.raises(ValidationError) as raised:
        CLIENT_MESSAGES.validate_json(text)
    line = what_is_wrong(raised.value)
    assert line
    assert len(line) < 600
    assert "\n" not in line


def test_a_client_takes_what_a_newer_server_says_and_tokens_are_not_shown():
    assert SERVER_MESSAGES.validate_json('{"type": "pong", "id": 3, "new": 1}') == messages.Pong(id=3)
    assert "secret" not in repr(messages.Start(token="secret"))
