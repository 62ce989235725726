# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
# ---
# SPDX-License-Identifier: Apache-2.0

# %% [markdown]
# # SimulMask in pictures
#
# From a schedule to a mask, to positions, to a stream, to a curve. Runs as it is in about a minute, with no download;
# `jupytext --to ipynb docs/walkthrough.py` makes a notebook of it.

# %%
import random
from pathlib import Path

import numpy
import torch

from transformers_simul import (
    MixturePolicy,
    OfflinePolicy,
    SimulFalconConfig,
    SimulFalconForCausalLM,
    SimulMaskDataCollator,
    SimulProcessor,
    WaitKPolicy,
    translate_stream,
)
from transformers_simul.evaluation.decode import translate_corpus
from transformers_simul.evaluation.mask_picture import draw_mask
from transformers_simul.evaluation.plots import plot_curves, plot_masks, plot_path
from transformers_simul.evaluation.report import FULL_SOURCE, markdown_table, report_line
from transformers_simul.models.masking import Pattern, ranks, unmodified, visible
from transformers_simul.models.schedule import Schedule, training_row
from transformers_simul.training import train_tokenizer

pictures = Path("output/walkthrough")
pictures.mkdir(parents=True, exist_ok=True)
source, target = "a red dog runs home", "ein roter Hund rennt heim"

# %% [markdown]
# A policy is a schedule: how many source words have been read before each target word.

# %%
for policy in (WaitKPolicy(1), WaitKPolicy(3)):
    print(policy, policy.delays(source_words=5, target_words=5))
plot_path(pictures / "path.png", source.split(), target.split(), WaitKPolicy(3).delays(5, 5)[:5])

# %% [markdown]
# ![](output/walkthrough/path.png)

# %% [markdown]
# The schedule says who sees whom in training. Two policies, one sentence pair: rows are queries, columns keys.

# %%
tokenizer = train_tokenizer([(source, target)] * 3, vocab_size=400)
processor = SimulProcessor(tokenizer, template="{source} => {target}")
pair = processor.encode_pair(source, target)
masks, schedules = {}, {}
for policy in (WaitKPolicy(1), WaitKPolicy(3)):
    row = training_row(
        processor.head_ids,
        pair["source_ids"],
        processor.tail_ids,
        pair["target_ids"],
        processor.eos_token_id,
        policy.delays(len(pair["source_ids"]), len(pair["target_ids"])),
    )
    schedule = Schedule.of_row(row)
    masks[repr(policy)] = visible(Pattern.of(schedule))[0].int().numpy()
    schedules[repr(policy)] = schedule
labels = [tokenizer.decode([token]) for token in row["input_ids"]]
plot_masks(pictures / "masks.png", masks, labels, labels)

# %% [markdown]
# ![](output/walkthrough/masks.png)

# %% [markdown]
# Hidden keys leave no gap: the rank of a key, which ALiBi multiplies with a slope, counts only what the query sees.

# %%
schedule = schedules[repr(WaitKPolicy(1))]
tail = row["in_target"].index(True)
corrected, plain = ranks(schedule, schedule), ranks(unmodified(schedule), schedule)
gaps = (plain - corrected)[0, tail:, tail]
print("keys hidden from each target query, which plain ALiBi would count:", gaps.tolist())
# Once the source has ended, nothing is hidden.
assert gaps[0] > 0
assert gaps[-1] == 0

# %% [markdown]
# And decoding sees the same, cell by cell, while it streams.

# %%
torch.manual_seed(0)
config = SimulFalconConfig(
    vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, multi_query=False,
    bos_token_id=0, eos_token_id=0, pad_token_id=1,
)  # fmt: skip
model = SimulFalconForCausalLM._from_config(config, attn_implementation="eager").eval()
picture = draw_mask(pictures / "decoded.png", model, processor, source, target, WaitKPolicy(2))
same, cells = picture.agreement
print(f"{same} of {cells} cells agree; logits differ by {picture.logit_difference:.1e}")
assert same == cells
assert numpy.isfinite(picture.decoded).all()

# %% [markdown]
# ![](output/walkthrough/decoded.png)

# %% [markdown]
# What reading ahead is worth. A toy language: adjectives stand before the noun in the source and after it in the
# target, so whoever writes the noun first must have read it. One model learns all policies at once.

# %%
NOUNS = dict(zip("dog cat child horse bird man".split(), "hund katz kind pferd vogel mann".split(), strict=True))
ADJECTIVES = dict(zip("red small old quick wet".split(), "rot klein alt schnell nass".split(), strict=True))
VERBS = dict(zip("sees follows likes hears".split(), "sieht folgt mag hoert".split(), strict=True))
draw = random.Random(0)


def phrase():
    noun, adjectives = draw.choice([*NOUNS]), draw.sample([*ADJECTIVES], draw.choice([1, 1, 2]))
    return ["the", *adjectives, noun], ["der", NOUNS[noun], *(ADJECTIVES[each] for each in adjectives)]


def sentence():
    (subject, subject_target), (thing, thing_target), verb = phrase(), phrase(), draw.choice([*VERBS])
    return " ".join([*subject, verb, *thing]), " ".join([*subject_target, VERBS[verb], *thing_target])


pairs = [sentence() for _ in range(4000)]
test = [sentence() for _ in range(100)]
toy = SimulProcessor(train_tokenizer(pairs, vocab_size=400), template="{source} => {target}")
settings = config.to_dict() | {"vocab_size": len(toy.tokenizer), "alibi_rounding": "exact"}
torch.manual_seed(0)
model = SimulFalconForCausalLM(SimulFalconConfig(**settings))
collator = SimulMaskDataCollator(toy, MixturePolicy([*map(WaitKPolicy, (1, 2, 3, 5)), OfflinePolicy()]))
collator.set_epoch(0)
optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
for _ in range(600):
    rows = [{"source": source, "target": target} for source, target in draw.sample(pairs, 32)]
    loss = model(**collator(rows)).loss
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()
print(f"loss of the last step: {loss.item():.2f}")

# %%
sources, references = zip(*test, strict=True)
lines = []
for name, policy in [*((f"k = {k}", WaitKPolicy(k)) for k in (1, 2, 3, 5)), (FULL_SOURCE, OfflinePolicy())]:
    lines.append(report_line(name, translate_corpus(model, toy, sources, references, policy), resamples=200))
print(markdown_table(lines))
plot_curves(pictures / "curve.png", {"one model": lines}, "A noun that is written before it is read is a guess")
# The noun stands at most two words further on.
scores = [line.quality[0].score for line in lines]
assert scores[2] > scores[0] + 30

# %% [markdown]
# ![](output/walkthrough/curve.png)

# %% [markdown]
# And a sentence as it streams.

# %%
for word in translate_stream(model, toy, sources[0].split(), WaitKPolicy(2)):
    print(f"{word.text:<10} after {word.delay} of: {sources[0]}")
