# SPDX-License-Identifier: Apache-2.0
import random

import pytest

from transformers_simul import FixedChunkPolicy, MixturePolicy, OfflinePolicy, Policy, Progress, WaitKPolicy

CLOSED_FORMS = [
    (WaitKPolicy(1), lambda i, source: min(1 + i, source)),
    (WaitKPolicy(5), lambda i, source: min(5 + i, source)),
    (WaitKPolicy(3, catchup=0.1), lambda i, source: min(3 + i - (i + 1) // 10, source)),
    (WaitKPolicy(1, catchup=0.29), lambda i, source: min(1 + i - 29 * (i + 1) // 100, source)),
    (FixedChunkPolicy(2, 3), lambda i, source: min(2 * (i // 3 + 1), source)),
    (OfflinePolicy(), lambda i, source: source),
]


@pytest.mark.parametrize(("policy", "g"), CLOSED_FORMS, ids=lambda each: repr(each) if isinstance(each, Policy) else "")
@pytest.mark.parametrize("source", [1, 2, 7, 150])
def test_training_schedule_equals_the_formula_and_the_steps(policy, g, source):
    target = 120
    assert policy.delays(source, target) == [g(i, source) for i in range(target)] + [source]
    # Step by step, as a decoder asks: READ until WRITE, then one word.
    read, steps = 0, []
    for written in range(target):
        while policy.reads(Progress(read, written)):
            if read == source:
                break
            read += 1
        steps.append(read)
    assert steps == policy.delays(source, target)[:-1]


def test_a_users_policy_needs_one_method():
    class Eager(Policy):
        def reads(self, progress):
            return progress.source_words <= progress.target_words // 2

    assert Eager().delays(3, 5) == [1, 1, 2, 2, 3, 3]


def test_mixture_draws_the_same_again_and_every_k():
    mixture = MixturePolicy([WaitKPolicy(k) for k in (1, 3, 5, 7)])
    draws = [mixture.for_example({}, random.Random(f"0:{epoch}:42")).k for epoch in range(100)]
    assert draws == [mixture.for_example({}, random.Random(f"0:{epoch}:42")).k for epoch in range(100)]
    assert set(draws) == {1, 3, 5, 7}
    with pytest.raises(ValueError, match="translate with one"):
        mixture.delays(3, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WaitKPolicy(0), "k must be .* at least 1, got 0"),
        (lambda: WaitKPolicy(-3), "got -3"),
        (lambda: WaitKPolicy(1.5), "whole number"),
        (lambda: WaitKPolicy(True), "whole number"),
        (lambda: WaitKPolicy(1, catchup=1), "catchup must lie in"),
        (lambda: FixedChunkPolicy(0, 1), "read must be at least 1"),
        (lambda: FixedChunkPolicy(1, 0), "write must be at least 1"),
        (lambda: MixturePolicy([]), "at least one policy"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
