# SPDX-License-Identifier: Apache-2.0
"""What looking costs: policies that look at the model against wait-3, source known. All are made to take wait-3's path
and to write the same real targets, so that they differ in what they ask the model alone.

    python benchmarks/adaptive_cost.py --counts   # forwards and FLOPs alone, which no other program can disturb
"""

from collections.abc import Callable

import common
from transformers_simul import AdaptivePolicy, AlignAttPolicy, Policy, WaitKPolicy, policy_from_name
from transformers_simul.cli.flags import CommandParser
from transformers_simul.evaluation.flops import count_flops

K = 3
NAMES = ("learned:0.5", "confidence:0.6,delta=2", "hold-2", "agree-2", "ralcp:0.6")


def on_the_path_of_wait_k(policy: AdaptivePolicy) -> AdaptivePolicy:
    """The policy, which does all its work at every look, and then decides as wait-k does."""
    decide = policy.reads_after

    def reads_after(evidence):
        decide(evidence)
        return evidence.progress.source_words - evidence.progress.target_words < K

    policy.reads_after = reads_after  # type: ignore[method-assign]
    policy.for_model = lambda model: policy  # type: ignore[method-assign]
    return policy


def translate(pairs: list[dict], policy: Policy) -> list:
    """The output of each sentence, translated alone."""
    model, processor = common.model(512, 4), common.processor()
    return [
        model.generate(
            **processor(source=pair["text"]),
            policy=policy,
            row_decoder=common.forced_decoder([pair["forced"]]),
            return_dict_in_generate=True,
        )
        for pair in pairs
    ]


def measure(results: dict[str, float], raw: dict[str, list[float]], sentences: int = 4, rounds: int = 3) -> None:
    pairs = common.sample(sentences)
    policies: dict[str, Policy] = {f"wait-{K}": WaitKPolicy(K)}
    policies |= {name: on_the_path_of_wait_k(policy_from_name(name)) for name in NAMES}
    policies["alignatt-2"] = on_the_path_of_wait_k(AlignAttPolicy(2, heads=[(2, 0), (3, 1)]))
    outputs = {name: translate(pairs, policy) for name, policy in policies.items()}
    paths = {name: [output.delays for output in each] for name, each in outputs.items()}
    if any(path != paths[f"wait-{K}"] for path in paths.values()):
        raise RuntimeError(f"all policies must take the path of wait-{K}, got {paths}.")
    sides: dict[str, Callable] = {
        name: lambda policy=policy: translate(pairs, policy) for name, policy in policies.items()
    }
    flops = {name: count_flops(side) for name, side in sides.items()}
    tokens = sum(len(pair["forced"]) for pair in pairs)
    for name, each in outputs.items():
        results[f"forwards_per_token: {name}"] = sum(output.forwards for output in each) / tokens
        results[f"flops_vs_wait_{K}: {name}"] = flops[name] / flops[f"wait-{K}"]
    if rounds:
        seconds = common.alternate(sides, rounds)
        for name in policies:
            results[f"time_vs_wait_{K}: {name}"] = common.ratio(seconds, name, f"wait-{K}")
        raw |= {f"wait-{K}'s path: {name}": each for name, each in seconds.items()}


if __name__ == "__main__":
    parser = CommandParser(description=__doc__)
    parser.add_argument("--counts", action="store_true")
    figures: dict[str, float] = {}
    measure(figures, {}, rounds=0 if parser.parse_args().counts else 3)
    common.report(figures, {})
