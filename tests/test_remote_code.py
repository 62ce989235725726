# SPDX-License-Identifier: Apache-2.0
"""A saved folder is enough: with torch and transformers alone it loads as remote code and streams the same ids."""

import json
import os
import subprocess
import sys

import pytest

from families import make_family
from helpers import make_model, make_processor
from transformers_simul import AutoSimulModel, SimulProcessor, WaitKPolicy

PROGRAM = """
import json, sys
sys.modules["transformers_simul"] = None
try:
    import transformers_simul
except ImportError:
    pass
else:
    raise SystemExit("the package must not be there")
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoProcessor

folder = sys.argv[1]
try:
    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
except ValueError as error:
    assert "trust_remote_code" in str(error), error
else:
    raise SystemExit("it must refuse without trust_remote_code")


model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
output = model.generate(
    **processor(source="a dog runs over the meadow"), wait_k=2, max_new_tokens=12, max_word_tokens=3,
    suppress_tokens=[0], return_dict_in_generate=True,
)
base = AutoModel.from_pretrained(folder, trust_remote_code=True)
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
model.save_pretrained(sys.argv[2])
processor.save_pretrained(sys.argv[2])
print(json.dumps({"words": output.words, "delays": output.delays, "config": type(config).__name__,
                  "model": type(model).__name__, "base": type(base).__name__}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("family", ["Falcon", "Gemma3", "Mpt"])
def test_saved_saved_again_and_loaded_without_the_package(tmp_path, family):
    processor = make_processor()
    model = make_model(processor) if family == "Falcon" else make_family(family, processor)
    model.save_pretrained(tmp_path / "first")
    processor.save_pretrained(tmp_path / "first")
    expected = model.generate(
        **processor(source="a dog runs over the meadow"), policy=WaitKPolicy(2), max_new_tokens=12, max_word_tokens=3,
        suppress_tokens=[0], return_dict_in_generate=True,
    )  # fmt: skip
    environment = os.environ | {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    for folder, again in (("first", "second"), ("second", "third")):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / folder), str(tmp_path / again)],
            capture_output=True, text=True, env=environment, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        assert found["words"] == expected.words
        assert found["delays"] == expected.delays
        assert (found["config"], found["model"]) == (f"Simul{family}Config", f"Simul{family}ForCausalLM")
        assert found["base"] == f"Simul{family}Model"
    # The package itself reads every generation of it.
    assert AutoSimulModel.from_pretrained(str(tmp_path / "third")).config.vocab_size == model.config.vocab_size
    assert SimulProcessor.from_pretrained(tmp_path / "third").template == processor.template
