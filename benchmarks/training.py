# SPDX-License-Identifier: Apache-2.0
"""Training steps on the same real rows, collation included: SimulMask against stock causal Falcon, with and without
peek rows; packed against padded batches; what autograd keeps; what the schedule adds to a batch."""

import statistics
from collections.abc import Callable

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler

import common
from transformers_simul import OfflinePolicy, SimulMaskDataCollator, WaitKPolicy

ROWS = 32


def kept_bytes(run: Callable[[], object]) -> int:
    """Memory of the tensors that autograd keeps for the backward pass, parameters included."""
    storages = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        run()
    return sum(storages.values())


def schedule_bytes(length: int, rows: int) -> int:
    """What the collator adds to ids and labels, at this size."""
    processor = common.processor()
    collator = SimulMaskDataCollator(processor, WaitKPolicy(3), packing=True, max_length=length)
    pairs = common.sample(len(common.corpus()["train"]), "train")
    batch, needed = collator(pairs), rows * length
    while batch["input_ids"].numel() < needed:
        pairs = pairs + pairs
        batch = collator(pairs)
    added = [batch[name][:rows] for name in ("pair_ids", "in_target", "offsets", "visible_source", "peeks")]
    return sum(field.numel() * field.element_size() for field in added)


def padding(pairs: list, rows: int = ROWS) -> dict[str, float]:
    """Share of a batch's places that hold a token: of batches as they come, of `--train_sampling_strategy
    group_by_length`, and packed."""
    processor, k_3 = common.processor(), WaitKPolicy(3)
    plain = SimulMaskDataCollator(processor, k_3)
    packing = SimulMaskDataCollator(processor, k_3, packing=True, max_length=512)
    lengths = [len(plain([pair])["input_ids"][0]) for pair in pairs]
    grouped = LengthGroupedSampler(rows, lengths=lengths, generator=torch.Generator().manual_seed(0))
    orders = {
        "as they come": (pairs, plain),
        "grouped by length": ([pairs[index] for index in grouped], plain),
        "packed": (pairs, packing),
    }
    shares = {}
    for name, (ordered, collate) in orders.items():
        made = [collate(ordered[start : start + rows])["pair_ids"] for start in range(0, len(ordered), rows)]
        shares[name] = sum(int((each > 0).sum()) for each in made) / sum(each.numel() for each in made)
    return shares


def measure(results: dict[str, float], raw: dict[str, list[float]]) -> None:
    processor, ours = common.processor(), common.model(512, 6).train()
    falcon, k_3 = common.stock(ours).train(), WaitKPolicy(3)
    pairs = common.sample(2 * ROWS, "train")
    batches = [pairs[start : start + ROWS] for start in range(0, len(pairs), ROWS)]

    def rows(policy=k_3, **options):
        return lambda batch: SimulMaskDataCollator(processor, policy, **options)(batch)

    def causal_rows(batch):
        made = rows(OfflinePolicy(), peek_rows=0)(batch)
        mask = (made["pair_ids"] > 0).long()
        return {"input_ids": made["input_ids"], "labels": made["labels"], "attention_mask": mask}

    def steps(network, collate):
        def side():
            for batch in batches:
                network(**collate(batch)).loss.backward()
                network.zero_grad()

        return side

    seconds = common.alternate(
        {
            "SimulMask step": steps(ours, rows(peek_rows=0)),
            "SimulMask step with peek rows": steps(ours, rows()),
            "stock causal step": steps(falcon, causal_rows),
            "SimulMask step with peek rows, packed": steps(ours, rows(packing=True, max_length=512)),
        }
    )
    for name, side in (("train_vs_causal", "SimulMask step"), ("train_with_peeks_vs_causal", [*seconds][1])):
        results[name] = common.ratio(seconds, side, "stock causal step")
    results["packing_vs_padded"] = common.ratio(seconds, [*seconds][1], [*seconds][3])
    raw |= seconds

    useful = sum(int((rows()(batch)["pair_ids"] > 0).sum()) for batch in batches)
    results["useful_tokens_per_s: packed"] = useful / statistics.median(seconds[[*seconds][3]])
    for name, network, collate in (("SimulMask", ours, rows(peek_rows=0)), ("stock causal", falcon, causal_rows)):
        batch = collate(batches[0])
        results[f"kept_mb: {name}"] = kept_bytes(lambda network=network, batch=batch: network(**batch)) / 1e6
    for name, share in padding(common.sample(1024, "train")).items():
        results[f"useful places of a batch: {name}"] = share
    results["schedule_mb: 8 rows of 8,192"] = schedule_bytes(8192, 8) / 1e6
    ours.eval()


if __name__ == "__main__":
    figures: dict[str, float] = {}
    measure(figures, {})
    common.report(figures, {})
