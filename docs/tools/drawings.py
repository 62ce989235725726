# SPDX-License-Identifier: Apache-2.0
"""Drawings of the concepts, from what the code does: docs/images/mask.png, ranks.png and cache.png.

Usage: python docs/tools/drawings.py   (a few seconds, no download)
"""

from pathlib import Path

import numpy
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from transformers_simul import SimulCache, SimulFalconConfig, SimulFalconForCausalLM, SimulProcessor, WaitKPolicy
from transformers_simul.evaluation.forced import forced_decoder
from transformers_simul.evaluation.mask_picture import draw_mask
from transformers_simul.models.masking import Pattern, rank, ranks, unmodified, visible
from transformers_simul.models.schedule import Schedule, training_row
from transformers_simul.training import train_tokenizer

IMAGES = Path(__file__).resolve().parents[1] / "images"
SOURCE, TARGET = "a red dog runs home", "ein roter Hund rennt heim"
BLUE, ORANGE, GREY, INK = "#9ecae1", "#fdb97d", "#d9d9d9", "#222222"


def draw_ranks(path: Path, processor: SimulProcessor) -> None:
    """How far behind itself a target query believes each key: plain ALiBi counts hidden keys, modified does not."""
    pair = processor.encode_pair(SOURCE, TARGET)
    delays = WaitKPolicy(1).delays(len(pair["source_ids"]), len(pair["target_ids"]))
    row = training_row(
        processor.head_ids, pair["source_ids"], processor.tail_ids, pair["target_ids"], processor.eos_token_id, delays
    )
    schedule = Schedule.of_row(row)
    seen = visible(Pattern.of(schedule))[0]
    first = row["in_target"].index(True)
    labels = [processor.tokenizer.decode([token]).strip() or "␣" for token in row["input_ids"]]

    figure = Figure(figsize=(13, 5.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = {"plain ALiBi": unmodified(schedule), "modified ALiBi": schedule}
    for axes, (title, queries) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        distance = (rank(queries, queries)[:, :, None] - ranks(queries, schedule))[0]
        cells = numpy.where(seen[first:].numpy(), distance[first:].numpy(), numpy.nan)
        axes.imshow(cells, cmap="Blues", vmin=-2, vmax=16, aspect="auto")
        for (query, key), value in numpy.ndenumerate(cells):
            if not numpy.isnan(value):
                gap = value > key_distance(seen[first + query], key, first + query)
                axes.text(
                    key, query, f"{value:.0f}", ha="center", va="center", fontsize=8,
                    color="#c0392b" if gap else INK, fontweight="bold" if gap else "normal",
                )  # fmt: skip
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=8)
        axes.set_yticks(range(len(labels) - first), labels[first:], fontsize=8)
        axes.set_xticks(numpy.arange(len(labels)) - 0.5, minor=True)
        axes.set_yticks(numpy.arange(len(labels) - first) - 0.5, minor=True)
        axes.grid(which="minor", color=GREY, linewidth=0.5)
        axes.tick_params(which="both", length=0)
        axes.set_title(f"{title}: tokens from query to key", fontsize=10)
    figure.savefig(path)


def key_distance(seen: torch.Tensor, key: int, query: int) -> int:
    """Tokens that the query sees behind the key, itself included: counted, one by one."""
    return sum(bool(seen[other]) for other in range(key + 1, query + 1))


class JustInTime:
    """A source whose next word is there only when it is asked for."""

    is_known, wait_s = False, None

    def __init__(self, words: list[list[int]]):
        self.words = list(words)

    def poll(self):
        return True, self.words.pop(0) if self.words else None

    def peek(self, index):
        return False, None

    def listen(self, callback):
        pass


class RecordingCache(SimulCache):
    """Notes after each placing what every slot holds, and which slots are new."""

    def __init__(self) -> None:
        super().__init__(1)
        self.steps: list[tuple[dict[int, tuple[bool, int]], list[int]]] = []

    def place(self, rows, counts, forgets, queries):
        step = super().place(rows, counts, forgets, queries)
        taken, in_target, offsets = (field[0].tolist() for field in step.keys[:3])
        held = {slot: (in_target[slot], offsets[slot]) for slot, is_taken in enumerate(taken) if is_taken}
        self.steps.append((held, step.slots[0].tolist()))
        return step


def draw_cache(path: Path, model: SimulFalconForCausalLM, processor: SimulProcessor) -> None:
    """What the cache holds after each forward of a live translation: in order of arrival, the newest row replaced."""
    source, target = processor.encode(SOURCE), processor.encode(TARGET)
    forced = [token for word in target for token in word] + [processor.eos_token_id]
    inputs = processor(source=SOURCE)
    inputs["source"] = [JustInTime(source)]
    cache = RecordingCache()
    model.generate(**inputs, policy=WaitKPolicy(2), past_key_values=cache, row_decoder=forced_decoder(forced))
    before = [*processor.head_ids, *(token for word in source for token in word)]
    texts = {
        False: [processor.tokenizer.decode([token]).strip() or "␣" for token in before],
        True: [processor.tokenizer.decode([token]).strip() or "␣" for token in processor.tail_ids + forced],
    }
    slots = max(slot for held, _ in cache.steps for slot in held) + 1
    figure = Figure(figsize=(0.62 * slots + 1.6, 0.36 * len(cache.steps) + 1.0), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    stored: set[tuple[bool, int]] = set()
    for step, (held, new) in enumerate(cache.steps):
        for slot, (in_target, offset) in held.items():
            is_prompt = in_target and offset < len(processor.tail_ids)
            colour = GREY if is_prompt else ORANGE if in_target else BLUE
            replaces = slot in new and (in_target, offset) in stored
            axes.add_patch(
                _box(slot, step, colour, alpha=1.0 if slot in new else 0.35, edge="#c0392b" if replaces else "white")
            )
            axes.text(
                slot, step, texts[in_target][offset], ha="center", va="center", fontsize=8,
                color=INK if slot in new else "#888888",
            )  # fmt: skip
        stored |= {*held.values()}
    axes.set_xlim(-0.5, slots - 0.5)
    axes.set_ylim(len(cache.steps) - 0.5, -0.5)
    axes.set_xlabel("slot of the cache")
    axes.set_ylabel("forward")
    axes.set_xticks(range(slots))
    axes.set_yticks(range(len(cache.steps)), range(1, len(cache.steps) + 1))
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    figure.savefig(path)


def _box(slot: int, step: int, colour: str, alpha: float, edge: str) -> FancyBboxPatch:
    return FancyBboxPatch(
        (slot - 0.44, step - 0.38), 0.88, 0.76, boxstyle="round,pad=0,rounding_size=0.08",
        facecolor=colour, edgecolor=edge, linewidth=1.8 if edge != "white" else 0.5, alpha=alpha,
    )  # fmt: skip


def make_model(processor: SimulProcessor) -> SimulFalconForCausalLM:
    """Random weights, since who sees whom does not depend on them; so large that attention is uneven."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "multi_query": False}
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    config = SimulFalconConfig(vocab_size=len(processor.tokenizer), initializer_range=0.3, **sizes, **ids)
    return SimulFalconForCausalLM._from_config(config, attn_implementation="eager").eval()


def main() -> None:
    tokenizer = train_tokenizer([(SOURCE, TARGET)] * 3, vocab_size=400)
    processor = SimulProcessor(tokenizer, template="{source} => {target}")
    model = make_model(processor)
    picture = draw_mask(IMAGES / "mask.png", model, processor, SOURCE, TARGET, WaitKPolicy(2))
    same, cells = picture.agreement
    draw_ranks(IMAGES / "ranks.png", processor)
    draw_cache(IMAGES / "cache.png", model, processor)
    print(f"written: mask.png, in which {same} of {cells} cells agree, ranks.png and cache.png in {IMAGES}")


if __name__ == "__main__":
    main()
