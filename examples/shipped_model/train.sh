#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Train the two models of models/ again: examples/shipped_model/train.sh TATOEBA WORK
#
# TATOEBA holds {train,test}.en-de.{en,de}.gz. WORK gets text, word alignments, base, simul, offline. Interrupt it when you
# like: the same command goes on. How long each part took here stands in docs/results/shipped-model.md; a CPU that
# computes in bfloat16 is needed, and preloading tcmalloc (LD_PRELOAD=libtcmalloc_minimal.so.4) helped.
# Then: publish.py WORK TATOEBA.
set -euo pipefail
tatoeba=$(realpath "$1") work=$2
here=$(cd "$(dirname "$0")" && pwd)
export PATH="$here/../../.venv/bin:$PATH" OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
mkdir -p "$work/data" && cd "$work"

[ -s data/dev.de ] || python "$here/training_text.py" "$tatoeba" data
[ -s data/train.align ] || transformers-simul align data/train.en data/train.de --output data/train.align

common=(--train_file data/train.en data/train.de --source_lang en --target_lang de --template "{source} => {target}"
  --max_length 192 --do_train --per_device_train_batch_size 64 --weight_decay 0.05 --adam_beta2 0.98 --dropout 0.1
  --attention_dropout 0 --attn_implementation eager --label_smoothing 0.1 --bf16
  --train_sampling_strategy group_by_length --save_steps 500 --save_total_limit 1 --logging_steps 100 --report_to none
  --stream_sentences 0)

# What both start from: full sentences, a constant rate.
transformers-simul train "${common[@]}" --output_dir base --wait_k full --peek_rows 0 --max_steps 9500 \
  --learning_rate 8e-4 --lr_scheduler_type constant_with_warmup --warmup_steps 500 \
  --hidden_size 320 --num_hidden_layers 6 --num_attention_heads 8 --vocab_size 8000

# As many steps for each, the rate falling to nothing.
tune=("${common[@]}" --model_name_or_path base --max_steps 3500 --learning_rate 7e-4 --lr_scheduler_type linear
  --warmup_steps 50)
transformers-simul train "${tune[@]}" --output_dir simul --wait_k 1 3 5 7 full random-1-9 aligned-0-2 \
  --train_alignment data/train.align
# Where it looks, for `--policy alignatt-2`.
transformers-simul heads simul data/train.en data/train.de --alignment data/train.align
transformers-simul train "${tune[@]}" --output_dir offline --wait_k full --peek_rows 0
