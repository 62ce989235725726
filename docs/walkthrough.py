# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
# ---

# %% [markdown]
# # SimulMask in pictures
#
# From a schedule to a mask, to positions, to a stream. Runs as it is on a tiny random model, with no download;
# `jupytext --to ipynb docs/walkthrough.py` makes a notebook of it.

# %%
import sys
from pathlib import Path

import numpy
import torch

from transformers_simul import SimulFalconConfig, SimulFalconForCausalLM, SimulProcessor, WaitKPolicy
from transformers_simul.finetuning import train_tokenizer
from transformers_simul.mask_picture import draw_mask
from transformers_simul.masking_simul import ranks, visible, whole_source
from transformers_simul.plots import plot_masks, plot_path
from transformers_simul.schedule_simul import Schedule, training_row

pictures = Path(sys.argv[1] if len(sys.argv) > 1 else "output/walkthrough")
pictures.mkdir(parents=True, exist_ok=True)
source, target = "a red dog runs home", "ein roter Hund rennt heim"

# %% [markdown]
# A policy is a schedule: how many source words have been read before each target word.

# %%
for policy in (WaitKPolicy(1), WaitKPolicy(3)):
    print(policy, policy.delays(source_words=5, target_words=5))
plot_path(pictures / "path.png", source.split(), target.split(), WaitKPolicy(3).delays(5, 5)[:5])

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
    schedule = Schedule(*(torch.tensor([row[name]]) for name in Schedule._fields))
    slots = torch.arange(len(row["input_ids"]))[None]
    masks[repr(policy)] = visible(schedule, schedule, slots)[0].int().numpy()
    schedules[repr(policy)] = schedule
labels = [tokenizer.decode([token]) for token in row["input_ids"]]
plot_masks(pictures / "masks.png", masks, labels, labels)

# %% [markdown]
# Hidden keys leave no gap: the rank of a key, which ALiBi multiplies with a slope, counts only what the query sees.

# %%
schedule = schedules[repr(WaitKPolicy(1))]
tail = row["in_target"].index(True)
corrected, plain = ranks(schedule, schedule), ranks(schedule, schedule, whole_source(schedule))
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
