# SPDX-License-Identifier: Apache-2.0
"""One stream, source known: wait-3 against offline decoding with stock Falcon's generate(): same weights, same forced
targets of real sentences."""

import torch
from transformers import LogitsProcessorList

import common
from transformers_simul import OfflinePolicy, WaitKPolicy
from transformers_simul.evaluation.flops import count_flops
from transformers_simul.models.linear import SimulLinear


def measure(results: dict[str, float], raw: dict[str, list[float]], sentences: int = 6) -> None:
    model, processor, pairs = common.model(), common.processor(), common.sample(sentences)
    falcon, falcon_onednn = common.stock(model), common.stock(model)
    for module in falcon_onednn.modules():
        if isinstance(module, torch.nn.Linear):
            module.__class__ = SimulLinear
    counts = {"forwards": 0, "tokens": 0}

    def simultaneous(policy):
        def side():
            for pair in pairs:
                output = model.generate(
                    **processor(source=pair["text"]),
                    policy=policy,
                    row_decoder=common.forced_decoder([pair["forced"]]),
                    return_dict_in_generate=True,
                )
                counts["forwards"] += output.forwards
                counts["tokens"] += len(pair["forced"])

        return side

    def offline(network):
        def side():
            for pair in pairs:
                ids = processor(source=pair["text"])["input_ids"]
                rule = common.Forced(pair["forced"], lambda shown, prompt=ids.shape[1]: shown.shape[1] - prompt)
                with torch.inference_mode():
                    network.generate(
                        ids,
                        attention_mask=torch.ones_like(ids),
                        logits_processor=LogitsProcessorList([rule]),
                        max_new_tokens=len(pair["forced"]),
                        do_sample=False,
                        pad_token_id=0,
                    )

        return side

    wait_3 = simultaneous(WaitKPolicy(3))
    wait_3()
    results["forwards_per_token"] = counts["forwards"] / counts["tokens"]
    results["decode_vs_offline_flops"] = count_flops(wait_3) / count_flops(offline(falcon))
    seconds = common.alternate(
        {
            "wait-3": wait_3,
            "full source": simultaneous(OfflinePolicy()),
            "stock offline": offline(falcon),
            "stock offline, our linear layers": offline(falcon_onednn),
        }
    )
    results["decode_vs_offline"] = common.ratio(seconds, "wait-3", "stock offline")
    results["decode_vs_offline_same_kernels"] = common.ratio(seconds, "wait-3", "stock offline, our linear layers")
    results["full_source_vs_offline"] = common.ratio(seconds, "full source", "stock offline")
    tokens = sum(len(pair["forced"]) for pair in pairs)
    weights_gb = sum(4e-9 * parameter.numel() for parameter in model.parameters())
    for name in ("wait-3", "stock offline"):
        results[f"weights_gb_per_s: {name}"] = weights_gb * tokens / sorted(seconds[name])[len(seconds[name]) // 2]
    raw |= seconds


if __name__ == "__main__":
    figures: dict[str, float] = {}
    measure(figures, {})
    common.report(figures, {})
