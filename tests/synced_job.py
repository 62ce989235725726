# SPDX-License-Identifier: Apache-2.0
"""What test_distributed.py runs in two processes: each generates from sentences of its own with a model of which it
holds a share, so that no forward ends before all have joined it."""

import sys

import torch.distributed as dist

from helpers import make_model, make_processor
from transformers_simul import SourceStream, WaitKPolicy
from transformers_simul.models import decoding

OPTIONS = {"max_word_tokens": 3, "suppress_tokens": [0], "return_dict_in_generate": True, "output_logits": True}


class LateStream(SourceStream):
    """Whose end comes only after it has been asked for some time."""

    polls = 0

    def poll(self):
        self.polls += 1
        if self.polls > 20:
            self.end()
        return super().poll()


def shared(model, kind):
    """The model in shares."""
    if kind == "zero3":
        import deepspeed

        zero = {"stage": 3, "stage3_param_persistence_threshold": 0}
        engine, *_ = deepspeed.initialize(
            model=model, config={"train_micro_batch_size_per_gpu": 1, "zero_optimization": zero}
        )
        return engine.module.eval()
    from torch.distributed.fsdp import fully_shard

    for layer in model.transformer.h:
        fully_shard(layer)
    return fully_shard(model, reshard_after_forward=True)


def main(kind: str) -> None:
    if kind == "zero3":
        import deepspeed

        deepspeed.init_distributed("gloo")
    else:
        dist.init_process_group("gloo")
    rank = dist.get_rank()
    processor, model = make_processor(), make_model(make_processor())
    tokens = (4, 20)[rank]
    sources = (["a dog"], ["two children watch him jumping remarkably high today", "a dog runs"])[rank]
    texts = ["two children watch him jumping remarkably high today", "a dog"]

    def run(stream, **options):
        # Of different lengths; then one that waits for source while the other asks, and the other way round.
        inputs = [processor(source=sources)]
        inputs += [processor(source=stream(f"{texts[0]} ") if late == rank else texts[1]) for late in (0, 1)]
        options |= OPTIONS | {"policy": WaitKPolicy(9), "max_new_tokens": tokens}
        return [model.generate(**each, **options) for each in inputs]

    def ended(text):
        stream = SourceStream(text)
        stream.end()
        return stream

    expected = run(ended)
    model = shared(model, kind)
    along, go_along = [], decoding._go_along
    decoding._go_along = lambda model: along.append(1) or go_along(model)
    found = run(LateStream, synced_gpus=True)
    assert [each.words for each in found] == [each.words for each in expected]
    assert [each.forwards for each in found] == [each.forwards for each in expected]
    for each, whole in zip(found, expected, strict=True):
        # The whole model's logits are those of training (test_generation.py).
        assert all((a - b).abs().max() <= 1e-5 for a, b in zip(each.logits, whole.logits, strict=True))
    whole = sum(parameter.numel() for parameter in make_model(processor).parameters())
    held = sum(getattr(each, "ds_tensor", each.to_local() if hasattr(each, "to_local") else each).numel()
               for each in model.parameters())  # fmt: skip
    assert held < 0.6 * whole, (held, whole)
    # The test is one only if each has gone along with the other.
    print(f"rank {rank} went along {sum(along)} times", flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
