# SPDX-License-Identifier: Apache-2.0
"""Writes the JSON Schema of the protocol's messages: python docs/tools/protocol.py (docs/protocol.schema.json)."""

import json
from pathlib import Path

from pydantic import TypeAdapter

from transformers_simul.serving.messages import (
    CLIENT_MESSAGES,
    LISTENER_MESSAGES,
    PROTOCOL_VERSION,
    ROOM_MESSAGES,
    SERVER_MESSAGES,
)

SCHEMA = Path(__file__).resolve().parents[1] / "protocol.schema.json"
_ADAPTERS = {
    "client": CLIENT_MESSAGES,
    "server": SERVER_MESSAGES,
    "listener": LISTENER_MESSAGES,
    "room": ROOM_MESSAGES,
}


def schema() -> str:
    """One document; under `properties` what may come from whom, under `$defs` each message."""
    parts, definitions = TypeAdapter.json_schemas(
        [(name, "validation", adapter) for name, adapter in _ADAPTERS.items()],
        title=f"transformers_simul, streaming protocol, version {PROTOCOL_VERSION}",
    )
    properties = {name: parts[name, "validation"] for name in _ADAPTERS}
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **definitions, "properties": properties}
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"


def main() -> None:
    SCHEMA.write_text(schema(), encoding="utf-8")
    print(f"written: {SCHEMA}")


if __name__ == "__main__":
    main()
