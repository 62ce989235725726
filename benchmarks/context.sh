#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What sentences that have ended and stay in view are worth on news: two models from one base, with as many sentences
# seen, `alone` sentence by sentence and `context` with the two before in view; then both translate a test set document
# by document, the second with 0, 1 and 2 in view. Interrupted, the same command goes on.
# Usage: benchmarks/context.sh de|fr BASE_MODEL DATA_FOLDER OUTPUT_FOLDER [train translate ...]
#   DATA_FOLDER holds news; BASE_MODEL is that of benchmarks/news.sh. Environment:
#   TUNE_STEPS  of about 64 sentences each (400)    SENTENCES  of the test set (500)    POLICIES  (wait-3)
set -euo pipefail
language=$1 base=$2 data=$3/news output=$4/en-$1
shift 4
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
mkdir -p "$output"
read -ra policies <<< "${POLICIES:-wait-3}"

fine_tune() { # name, rows of a batch, longest row, further flags
  local name=$1 rows=$2 length=$3
  shift 3
  "$python" -m transformers_simul.cli train --model_name_or_path "$base" --output_dir "$output/$name" --do_train \
    --train_file "$data/train.en-$language.en.gz" "$data/train.en-$language.$language.gz" --source_lang en \
    --target_lang "$language" --template "{source} => {target}" --max_length "$length" --dropout 0.1 \
    --attention_dropout 0 --label_smoothing 0.1 --attn_implementation eager --weight_decay 0.05 --adam_beta2 0.98 --bf16 \
    --train_sampling_strategy group_by_length --per_device_train_batch_size "$rows" --gradient_accumulation_steps 2 \
    --max_steps "${TUNE_STEPS:-400}" --learning_rate 5e-4 --lr_scheduler_type linear --warmup_steps 0.1 \
    --save_steps 50 --save_total_limit 1 --logging_steps 50 --report_to none --stream_sentences 0 \
    --wait_k 1 3 5 7 full "$@"
}

train() {
  fine_tune alone 32 400
  fine_tune context 4 800 --context_sentences 2 --run_sentences 8
}

translate() {
  for code in en "$language"; do zcat "$data/test.en-$language.$code.gz" > "$output/test.$code"; done
  "$python" benchmarks/context.py "$output/context" "$output/test.en" "$output/test.$language" --against "$output/alone" \
    --context 1 2 --policy "${policies[@]}" --max-samples "${SENTENCES:-500}" --batch-size 8 \
    --train "$data/train.en-$language.en.gz" "$data/train.en-$language.$language.gz" | tee "$output/context.md"
}

for part in "${@:-train translate}"; do
  for name in $part; do "$name"; done
done
