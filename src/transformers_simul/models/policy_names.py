# SPDX-License-Identifier: Apache-2.0
"""Policies by name, as flags and saved configurations spell them."""

import re
from collections.abc import Callable

from .adaptive import ConfidencePolicy, HoldPolicy, LearnedReadPolicy, LocalAgreementPolicy, RelaxedAgreementPolicy
from .align_att import AlignAttPolicy, check_heads
from .policies import FixedChunkPolicy, OfflinePolicy, Policy, WaitKPolicy
from .seam import DecodingModel

_LAGS = {"min": "least_lag", "max": "greatest_lag"}
# For each name: the class, its positional arguments, and its named arguments.
_KINDS: dict[str, tuple[Callable[..., Policy], tuple[str, ...], dict[str, str]]] = {
    "wait": (WaitKPolicy, ("k",), {"catchup": "catchup"}),
    "chunk": (FixedChunkPolicy, ("read", "write"), {}),
    "full": (OfflinePolicy, (), {}),
    "learned": (LearnedReadPolicy, ("threshold",), _LAGS),
    "confidence": (ConfidencePolicy, ("alpha",), _LAGS | {"delta": "delta"}),
    "hold": (HoldPolicy, ("words",), _LAGS),
    "agree": (LocalAgreementPolicy, ("drafts",), _LAGS),
    "ralcp": (RelaxedAgreementPolicy, ("share",), _LAGS | {"drafts": "drafts"}),
    "alignatt": (AlignAttPolicy, ("words",), _LAGS),
}
FORMS = (
    "wait-K, wait-K:catchup=C, chunk-N-M, full, learned:THRESHOLD, confidence:ALPHA, confidence:ALPHA,delta=D, hold-N, "
    "agree-N, ralcp:SHARE, ralcp:SHARE,drafts=N, alignatt-N; those that look at the model also take min=LAG and max=LAG"
)


def policy_from_name(name: str) -> Policy:
    """Return the policy that a name stands for.

    Args:
        name (`str`): such as `"wait-3"`, `"chunk-2-3"`, `"full"`, `"learned:0.5"`, `"confidence:0.6,min=1,max=7"`,
            `"hold-2"`, `"agree-2"`, `"ralcp:0.6"` or `"alignatt-2"`. Numbers may follow a dash or a colon.

    Raises:
        ValueError: for a name that is none, or arguments out of range.

    Example:

    ```python
    >>> from transformers_simul import policy_from_name
    >>> policy_from_name("wait-3"), policy_from_name("confidence:0.6,min=1,max=7")
    (WaitKPolicy(k=3), ConfidencePolicy(alpha=0.6, delta=None, least_lag=1, greatest_lag=7))

    ```
    """
    if not isinstance(name, str):
        raise ValueError(f"policy must be a name, one of {FORMS}; got {name!r}.")
    # A dash after another separator is a minus.
    kind, *values = re.split(r"(?<![-:,=])-|[:,]", name)
    if kind not in _KINDS:
        raise ValueError(f"policy must be one of {FORMS}; got {name!r}.")
    make, positions, names = _KINDS[kind]
    arguments: dict[str, int | float] = {}
    for place, value in enumerate(values):
        key, equals, number = value.rpartition("=")
        argument = names.get(key) if equals else positions[place] if place < len(positions) else None
        if argument is None or argument in arguments:
            raise ValueError(f"policy must be one of {FORMS}; got {name!r}, with {value!r} in it.")
        try:
            arguments[argument] = int(number) if number.isdecimal() else float(number)
        except ValueError as error:
            raise ValueError(f"{key or argument} of policy {name!r} must be a number, got {number!r}.") from error
    missing = [argument for argument in positions if argument not in arguments]
    if missing and kind in ("wait", "chunk"):
        raise ValueError(f"policy {name!r} must say its {missing[0]}: {FORMS}.")
    return make(**arguments)


def named(policy: Policy | str, model: DecodingModel) -> Policy:
    """The policy itself, or that of a name, as it decides for a model.

    Args:
        policy (`Policy` or `str`): the one or the other.
        model: that is to translate.

    Raises:
        ValueError: for what is neither, or what this model cannot do.
    """
    if isinstance(policy, str):
        policy = policy_from_name(policy)
    if isinstance(policy, type) or not hasattr(policy, "reads"):
        raise ValueError(f"policy must be a Policy or the name of one, got {policy!r}.")
    policy = policy.for_model(model)
    if policy.heads:
        # A forward that looks for a head that is not there would fail for all rows.
        check_heads(policy.heads, model)
    return policy


__all__ = ["FORMS", "named", "policy_from_name"]
