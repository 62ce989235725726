# SPDX-License-Identifier: Apache-2.0
"""What a user would take instead, on the same weights, sentences and numbers of tokens: CTranslate2, which decodes
offline, or translates every prefix anew for wait-k; stock generate(); and Transformers' continuous batching. One
thread each, processor time in turns.

Usage: benchmarks/peers.py [MODEL_FOLDER SOURCE_FILE TARGET_FILE]
"""

import copy
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.generation import ContinuousBatchingConfig, GenerationConfig

import common
from transformers_simul import (
    AutoSimulModel,
    SimulLlamaConfig,
    SimulLlamaForCausalLM,
    SimulProcessor,
    SourceStream,
    StreamEngine,
    WaitKPolicy,
)
from transformers_simul.corpora import read_pairs
from transformers_simul.models.decoding_weights import set_decoding_weights
from transformers_simul.models.row_decoder import RowDecoder

K, LONG = 3, range(18, 23)


class Peer:
    """CTranslate2 with a model's weights, which its converter takes from a folder of stock Falcon; it knows none of
    ours. Every call is forced to as many tokens as the references have, so that no side writes fewer."""

    def __init__(self, model: Any, processor: SimulProcessor, folder: Path, kind: str):
        import ctranslate2

        if not (folder / "model.bin").is_file():
            stock = folder / "stock"
            common.stock(model).save_pretrained(stock)
            processor.tokenizer.save_pretrained(stock)
            ctranslate2.converters.TransformersConverter(str(stock)).convert(str(folder), force=True)
        self.tokenizer = processor.tokenizer
        self.generator = ctranslate2.Generator(str(folder), compute_type=kind, intra_threads=1)

    def logits(self, ids: list[int]) -> torch.Tensor:
        """Of a row's tokens, shape `(tokens, vocabulary)`."""
        found = self.generator.forward_batch([self.tokenizer.convert_ids_to_tokens(ids)])
        return torch.as_tensor(numpy.array(found))[0]

    def write(self, prompt: list[int], count: int, head: list[int] | None = None) -> None:
        """Go on behind a prompt, whose states are kept from call to call where `head` gives its first tokens."""
        tokens, fixed = (self.tokenizer.convert_ids_to_tokens(ids or []) for ids in (prompt, head))
        (found,) = self.generator.generate_batch(
            [tokens[len(fixed) :]],
            static_prompt=fixed or None,
            min_length=count,
            max_length=count,
            include_prompt_in_result=False,
        )
        if len(found.sequences_ids[0]) != count:
            raise RuntimeError(f"CTranslate2 wrote {len(found.sequences_ids[0])} tokens instead of {count}.")

    def offline(self, pairs: list, processor: SimulProcessor) -> Callable[[], None]:
        def side() -> None:
            for pair in pairs:
                self.write(prompt(pair, processor), len(pair["forced"]))

        return side

    def retranslate(self, pairs: list, processor: SimulProcessor) -> Callable[[], None]:
        """Wait-k: for each word its prompt anew with the words that were read, and behind it those that were written;
        the end in one call. That a word has ended is told for nothing, and the prompt's head is kept."""

        def side() -> None:
            for pair in pairs:
                written: list[int] = []
                source, targets = pair["source_ids"], [*pair["target_ids"], [processor.eos_token_id]]
                for index, word in enumerate(targets):
                    read = K + index
                    shown = prompt({"source_ids": source[:read]}, processor) + written
                    if read >= len(source):
                        self.write(shown, sum(map(len, targets[index:])), processor.head_ids)
                        break
                    self.write(shown, len(word), processor.head_ids)
                    written += word

        return side


def prompt(pair: dict, processor: SimulProcessor) -> list[int]:
    return [*processor.head_ids, *(token for word in pair["source_ids"] for token in word), *processor.tail_ids]


def generated(network: Any, pairs: list, processor: SimulProcessor) -> Callable[[], None]:
    """Stock generate()."""

    @torch.inference_mode()
    def side() -> None:
        for pair in pairs:
            ids, count = torch.tensor([prompt(pair, processor)]), len(pair["forced"])
            lengths = {"min_new_tokens": count, "max_new_tokens": count}
            network.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0, **lengths)

    return side


def simultaneous(
    model: Any, pairs: list, processor: SimulProcessor, live: bool = False, base: type[RowDecoder] = RowDecoder
) -> Callable[[], None]:
    """Ours, wait-k: the source known, or a stream whose text waits."""

    def side() -> None:
        for pair in pairs:
            source = SourceStream(pair["text"]) if live else pair["text"]
            if live:
                source.end()
            decoder = common.forced_decoder([pair["forced"]], base)
            model.generate(**processor(source=source), policy=WaitKPolicy(K), row_decoder=decoder)

    return side


def measure_ctranslate2(
    results: dict[str, float], raw: dict[str, list[float]], model: Any, processor: SimulProcessor, pairs: list, name=""
) -> None:
    """Offline on four sentences and re-translation on three of 20 words."""
    short, weights = pairs[:4], {kind: copy.deepcopy(model) for kind in ("float32", "int8")}
    for kind, each in weights.items():
        set_decoding_weights(each, kind)
    long = [pair for pair in pairs if len(pair["source_ids"]) in LONG][:3]
    with tempfile.TemporaryDirectory() as folder:
        exact, small = (Peer(model, processor, Path(folder), kind) for kind in ("float32", "int8"))
    ids = prompt(short[0], processor) + short[0]["forced"]
    with torch.inference_mode():
        ours = common.stock(model)(torch.tensor([ids])).logits[0]
    results[f"logits_minus_ctranslate2_float32{name}"] = (exact.logits(ids) - ours).abs().max().item()
    seconds = common.alternate(
        {
            "ours, float32": simultaneous(model, short, processor),
            "ours, float32 in oneDNN's order": simultaneous(weights["float32"], short, processor),
            "ours, int8": simultaneous(weights["int8"], short, processor),
            "stock generate()": generated(common.stock(model), short, processor),
            "CTranslate2 offline, float32": exact.offline(short, processor),
            "CTranslate2 offline, int8": small.offline(short, processor),
            "ours live, int8": simultaneous(weights["int8"], long, processor, live=True),
            "ours just in time, int8": simultaneous(weights["int8"], long, processor, True, common.JustInTimeDecoder),
            "CTranslate2 re-translating, int8": small.retranslate(long, processor),
        },
        clock=time.process_time,
        rounds=3,
    )
    for kind in ("float32", "int8"):
        found = common.ratio(seconds, f"ours, {kind}", f"CTranslate2 offline, {kind}")
        results[f"{kind}_vs_ctranslate2_offline_{kind}{name}"] = found
    peer = "CTranslate2 offline, float32"
    packed = common.ratio(seconds, "ours, float32 in oneDNN's order", peer)
    results[f"onednn_order_vs_ctranslate2_offline_float32{name}"] = packed
    results[f"stock_generate_vs_ctranslate2_float32{name}"] = common.ratio(seconds, "stock generate()", peer)
    peer = "CTranslate2 re-translating, int8"
    results[f"retranslation_ctranslate2_vs_int8{name}"] = common.ratio(seconds, peer, "ours live, int8")
    late = common.ratio(seconds, peer, "ours just in time, int8")
    results[f"retranslation_ctranslate2_vs_int8{name}: just in time"] = late
    raw |= {f"peers{name}, {side}": each for side, each in seconds.items()}


def measure_continuous(results: dict[str, float], raw: dict[str, list[float]], requests: int = 32) -> None:
    """Of a Llama, since continuous batching hands Falcon's ALiBi a mask that it does not take: all sentences offline,
    beside wait-k in one engine."""
    pairs, processor = common.sample(requests), common.processor()
    torch.manual_seed(0)
    sizes = {"hidden_size": 320, "intermediate_size": 1280, "num_hidden_layers": 6, "num_attention_heads": 8}
    ours = SimulLlamaForCausalLM(SimulLlamaConfig(vocab_size=8000, bos_token_id=0, eos_token_id=0, **sizes)).eval()
    # A configuration of its own: continuous batching writes its kind of attention into it.
    config = LlamaConfig(vocab_size=8000, bos_token_id=0, eos_token_id=0, **sizes)
    stock = LlamaForCausalLM._from_config(config, attn_implementation="sdpa").eval()
    stock.load_state_dict(ours.state_dict())
    engine = StreamEngine(ours, processor, max_streams=requests, max_tokens=256)
    settings = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
    room = ContinuousBatchingConfig(page_size=64, num_blocks=8 * requests, max_batch_tokens=256)

    def streams() -> None:
        opened = []
        for pair in pairs:
            opened.append(engine.open(WaitKPolicy(K), row_decoder=common.forced_decoder([pair["forced"]])))
            opened[-1].source.put(pair["text"])
            opened[-1].source.end()
        while engine.step():
            pass
        if (ends := {stream.stop_reason for stream in opened}) != {"eos"}:
            raise RuntimeError(f"Streams must end with eos, but ended with {ends}.")

    with stock.continuous_batching_context_manager(settings, continuous_batching_config=room) as manager:

        def continuous() -> None:
            wanted = {manager.add_request(prompt(pair, processor), None, len(pair["forced"])) for pair in pairs}
            while wanted:
                found = manager.get_result(timeout=60)
                if found is None or found.error:
                    raise RuntimeError(f"Continuous batching gave no result: {found and found.error}.")
                wanted.discard(found.request_id)

        seconds = common.alternate({"streams": streams, "continuous batching": continuous}, 2, time.process_time)
    results[f"continuous_batching_vs_streams{requests}: Llama"] = common.ratio(
        seconds, "continuous batching", "streams"
    )
    raw |= {f"peers, {requests} requests, {side}": each for side, each in seconds.items()}


def measure(results: dict[str, float], raw: dict[str, list[float]]) -> None:
    """All of it, in one thread, with random weights of two sizes."""
    pairs, processor = common.sample(600), common.processor()
    with common.one_thread():
        measure_continuous(results, raw)
        with common.needs("ctranslate2"):
            measure_ctranslate2(results, raw, common.model(num_hidden_layers=3), processor, pairs)
            measure_ctranslate2(results, raw, common.model(320, 6), processor, pairs, ": 10M")


def main(folder: str = "", *files: str) -> None:
    figures: dict[str, float] = {}
    if folder:
        processor = SimulProcessor.from_pretrained(folder)
        pairs = [common.encoded(pair, processor) for pair in read_pairs(files, "source", "target")]
        with common.one_thread():
            measure_ctranslate2(figures, {}, AutoSimulModel.from_pretrained(folder), processor, pairs)
    else:
        measure(figures, {})
    common.report(figures, {})


if __name__ == "__main__":
    main(*sys.argv[1:])
