# SPDX-License-Identifier: Apache-2.0
import random

import pytest

from transformers_simul import (
    AlignedPolicy,
    FixedChunkPolicy,
    MixturePolicy,
    OfflinePolicy,
    Policy,
    Progress,
    RandomPathPolicy,
    WaitKPolicy,
)


class Forgetful(Policy):
    """It does not say what it does."""

    def reads(self, progress):
        pass


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


def test_random_paths_stay_between_their_lags_and_meet_every_state():
    source, target, least, greatest = 6, 5, 1, 3
    met = set()
    for epoch in range(300):
        path = RandomPathPolicy(least, greatest).for_example({}, random.Random(epoch))
        delays = path.delays(source, target)
        assert delays == sorted(delays)
        assert all(min(i + least, source) <= g <= min(i + greatest, source) for i, g in enumerate(delays[:-1]))
        met |= set(enumerate(delays[:-1]))
    assert met == {(i, g) for i in range(target) for g in range(i + least, min(i + greatest, source) + 1)}


def test_random_paths_are_eager_and_lazy_ones_and_the_same_again():
    def draw(epoch):
        return RandomPathPolicy(1, 9).for_example({}, random.Random(f"0:{epoch}:42")).delays(20, 10)

    first = [draw(epoch)[0] for epoch in range(200)]
    assert {1, 9} <= set(first)
    assert [draw(epoch) for epoch in range(20)] == [draw(epoch) for epoch in range(20)]
    mixture = MixturePolicy([RandomPathPolicy()])
    assert mixture.is_random
    assert not MixturePolicy([WaitKPolicy(1)]).is_random


def aligned(text, **options):
    return AlignedPolicy(**options).for_example({"alignment": text}, random.Random(0))


def running_maximum(links, source, target, margin, least, greatest):
    """The oracle: word by word, from the definition."""
    delays, highest = [], 0
    for word in range(target):
        for link in links:
            if link[1] == word and link[0] + 1 > highest:
                highest = link[0] + 1
        g = highest + margin
        if g < word + least:
            g = word + least
        if greatest is not None and g > word + greatest:
            g = word + greatest
        delays.append(source if g > source else g)
    return [*delays, source]


def test_aligned_schedules_are_the_running_maximum_of_the_aligned_words():
    draw = random.Random(5)
    for _ in range(300):
        source, target = draw.randint(1, 12), draw.randint(1, 12)
        links = [(draw.randrange(source), draw.randrange(target)) for _ in range(draw.randint(0, 14))]
        margin, least = draw.randint(0, 3), draw.randint(1, 3)
        greatest = draw.choice([None, least, least + 4])
        policy = aligned(" ".join(f"{a}-{b}" for a, b in links), margin=margin, least_lag=least, greatest_lag=greatest)
        assert policy.delays(source, target) == running_maximum(links, source, target, margin, least, greatest)


def test_a_drawn_margin_is_random_and_a_fixed_one_is_not():
    assert AlignedPolicy(margin=(0, 2)).is_random
    assert not AlignedPolicy(margin=2).is_random
    drawn = {
        AlignedPolicy(margin=(0, 2)).for_example({"alignment": "0-0"}, random.Random(seed)).delays(9, 1)[0]
        for seed in range(50)
    }
    assert drawn == {1, 2, 3}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WaitKPolicy(0), "k must be .* at least 1, got 0"),
        (lambda: WaitKPolicy(-3), "got -3"),
        (lambda: WaitKPolicy(1.5), "whole number"),
        (lambda: WaitKPolicy(True), "whole number"),
        (lambda: WaitKPolicy(1, catchup=1), "catchup must lie in"),
        (lambda: FixedChunkPolicy(0, 1), "read must be a whole number of at least 1, got 0"),
        (lambda: FixedChunkPolicy(2.5, 1), "read must be a whole number of at least 1, got 2.5"),
        (lambda: RandomPathPolicy(1, float("nan")), "greatest_lag must be a whole number of at least 1, got nan"),
        (lambda: RandomPathPolicy(1.5), "least_lag must be a whole number of at least 1, got 1.5"),
        (lambda: Forgetful().delays(3, 3), "reads of .*Forgetful.* must give True or False to train on, got None"),
        (lambda: FixedChunkPolicy(1, 0), "write must be a whole number of at least 1"),
        (lambda: MixturePolicy([]), "at least one policy"),
        (lambda: RandomPathPolicy(0), "least_lag must be a whole number of at least 1, got 0"),
        (lambda: RandomPathPolicy(3, 2), "greatest_lag must be at least least_lag, 3, got 2"),
        (lambda: AlignedPolicy(margin=-1), "margin must be at least 0"),
        (lambda: AlignedPolicy(margin=(2, 1)), "ascending order"),
        (lambda: AlignedPolicy(least_lag=4, greatest_lag=3), "greatest_lag"),
        (lambda: aligned("0-0 1:2"), "links such as 0-0 1-2, got '1:2'"),
        (lambda: aligned("0--1"), "links such as"),
        (lambda: aligned(None), "links such as .*None"),
        (lambda: AlignedPolicy().for_example({"target": ""}, random.Random(0)), "column 'alignment', got .'target'"),
        (lambda: aligned("3-0").delays(3, 1), "3 of the source and 1 of the target, .* got 3-0"),
        (lambda: aligned("0-1").delays(3, 1), "got 0-1"),
        (lambda: AlignedPolicy().delays(3, 3), "translate with another"),
        (lambda: RandomPathPolicy().delays(3, 3), "translate with another"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
