# SPDX-License-Identifier: Apache-2.0
import collections
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Pages that are served side by side look for a free port in ranges of their own.
os.environ["GRADIO_SERVER_PORT"] = str(7860 + 100 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]))

import pytest
from hypothesis import HealthCheck, settings

# Whether a test passes does not depend on how fast the machine is.
settings.register_profile("any machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# They import SimulEval and simulstream, which live in environments of their own.
collect_ignore = [
    "src/transformers_simul/evaluation/simuleval_agent.py",
    "src/transformers_simul/speech/simulstream_processor.py",
]
# They record what the tests compare with; they bear one name, which pytest takes for one module.
collect_ignore_glob = ["tests/*/record.py"]


@pytest.fixture(scope="session")
def _tiny():
    from helpers import make_model, make_processor

    processor = make_processor()
    return {"processor": processor, "tokenizer": processor.tokenizer, "model": make_model(processor)}


@pytest.fixture(scope="session")
def processor(_tiny):
    return _tiny["processor"]


@pytest.fixture(scope="session")
def model(_tiny):
    return _tiny["model"]


@pytest.fixture(scope="module")
def counts():
    """Of what was sent and what came back; printed at the end of a module, which pytest -s shows."""
    counts = collections.Counter()
    yield counts
    print(f"\n{dict(sorted(counts.items()))}")


@pytest.fixture(autouse=True)
def _names_of_doctests(request, doctest_namespace):
    """Docstring examples find a tiny processor and model under the names that a user would give them."""
    if isinstance(request.node, pytest.DoctestItem):
        doctest_namespace.update(request.getfixturevalue("_tiny"))
