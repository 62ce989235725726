# SPDX-License-Identifier: Apache-2.0
"""What looking costs: policies that look at the model against wait-3, source known. All are made to take wait-3's path
and to write the same real targets, so that they differ in what they ask the model alone.

    python benchmarks/adaptive_cost.py --counts   # forwards and FLOPs alone, which no other program can disturb
    python benchmarks/adaptive_cost.py --own-paths   # forwards of the shipped model, every policy on its own path
"""

from collections.abc import Callable
from pathlib import Path

import common
from transformers_simul import (
    AdaptivePolicy,
    AlignAttPolicy,
    AutoSimulModel,
    Policy,
    SimulProcessor,
    WaitKPolicy,
    policy_from_name,
)
from transformers_simul.cli.flags import CommandParser
from transformers_simul.evaluation.flops import count_flops
from transformers_simul.models.row_decoder import RowDecoder

K = 3
NAMES = ("learned:0.5", "confidence:0.6,delta=2", "hold-2", "agree-2", "ralcp:0.6")
OWN_PATHS = ("wait-3", "learned:0.2", "confidence:0.7", "alignatt-3", "hold-2", "agree-2", "ralcp:0.5")
SHIPPED = Path(__file__).resolve().parents[1] / "models" / "simul-falcon-en-de"
SENTENCES = (
    "Although he was tired, he continued to work until midnight.",
    "She asked me whether I had seen her brother at the station yesterday.",
    "The children who were playing in the garden did not want to come home.",
    "I would like to know when the next train to Berlin leaves.",
    "We have been waiting for the doctor for more than two hours.",
)


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


class PlainDecoder(RowDecoder):
    """Asks at most one READ ahead, and makes every draft anew."""

    def _copies_due(self, written, most):
        return super()._copies_due(written, 1) if written > len(self.words) else ()

    def _feed_token(self, token, copies=()):
        return (yield from self.questions.ask(self.feed([token], copies)))

    def _ask_again(self):
        asked = self.questions.copies
        return (yield from super()._ask_again() if asked else self.questions.ask(self.feed_again()))


def count_on_own_paths() -> dict[str, float]:
    """Forwards per target token, EOS among them, of a trained model."""
    model, processor = AutoSimulModel.from_pretrained(SHIPPED).eval(), SimulProcessor.from_pretrained(SHIPPED)
    found = {}
    for name in OWN_PATHS:
        sides = {
            decoder: [
                model.generate(**processor(source=text), policy=name, row_decoder=decoder, return_dict_in_generate=True)
                for text in SENTENCES
            ]
            for decoder in (PlainDecoder, RowDecoder)
        }
        plain, kept = ([(output.words, output.delays) for output in side] for side in sides.values())
        if plain != kept:
            raise RuntimeError(f"both decoders must write the same under {name}, got {plain} and {kept}.")
        for decoder, outputs in sides.items():
            tokens = sum(len(word) for output in outputs for word in output.words[0]) + len(outputs)
            forwards = sum(output.forwards for output in outputs)
            found[f"{decoder.__name__}: {name}"] = forwards / tokens
    return found


if __name__ == "__main__":
    parser = CommandParser(description=__doc__)
    parser.add_argument("--counts", action="store_true")
    parser.add_argument("--own-paths", action="store_true")
    args = parser.parse_args()
    figures: dict[str, float] = count_on_own_paths() if args.own_paths else {}
    if not args.own_paths:
        measure(figures, {}, rounds=0 if args.counts else 3)
    common.report(figures, {})
