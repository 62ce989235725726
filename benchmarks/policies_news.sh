#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Adaptive policies on news, and what their training is worth: four models from one base, with as many examples seen,
# translated under wait-k and under policies that look; tables at equal lagging. Interrupted, the same command goes on.
#   waitk      wait-k mixture and full sources: the baseline, and for policies that look a training that does not match
#   paths      random paths between two lags: every state that a policy can be in
#   untaught   wait-k, random and aligned paths, without decision rows
#   taught     the same with decision rows, from which the model learns to READ
# Usage: benchmarks/policies_news.sh de|fr BASE_MODEL DATA_FOLDER OUTPUT_FOLDER [train translate compare ...]
#   DATA_FOLDER holds news; BASE_MODEL is that of benchmarks/news.sh. Environment:
#   TUNE_STEPS  of 64 rows each (400)      PAIRS  of the training text, all unless told
#   SENTENCES  of the test set (all)       POLICIES, OTHER_POLICIES  names, for `taught` and for the other three
#   MODELS  names, all four unless told: two calls with two models each can run side by side, a core each
set -euo pipefail
language=$1 base=$2 data=$3/news output=$4/en-$1
shift 4
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
text=$output/text
read -ra models <<< "${MODELS:-taught waitk paths untaught}"
mkdir -p "$text"
read -ra limit <<< "${SENTENCES:+--max_samples $SENTENCES}"
read -ra all <<< "${POLICIES:+--policies $POLICIES}"
read -ra other <<< "${OTHER_POLICIES:-wait-1 wait-2 wait-3 wait-5 wait-7 confidence:0.2 confidence:0.35 confidence:0.5 \
  confidence:0.7 confidence:0.9 alignatt-1 alignatt-2 alignatt-3 alignatt-4 alignatt-5}"

prepare() {
  if [ ! -s "$text/train.align" ]; then
    zcat "$data/train.en-$language.en.gz" | sed -n "1,${PAIRS:-\$}p" > "$text/train.en"
    zcat "$data/train.en-$language.$language.gz" | sed -n "1,${PAIRS:-\$}p" > "$text/train.$language"
    "$python" -m transformers_simul.cli align "$text/train.en" "$text/train.$language" --output "$text/train.align"
  fi
  zcat "$data/test.en-$language.en.gz" > "$text/test.en"
  zcat "$data/test.en-$language.$language.gz" > "$text/test.$language"
}

fine_tune() { # name, training policies
  local name=$1
  shift
  local links=()
  if [[ "$*" == *aligned* ]]; then links=(--train_alignment "$text/train.align"); fi
  "$python" -m transformers_simul.cli train --model_name_or_path "$base" --output_dir "$output/$name" --do_train \
    --train_file "$text/train.en" "$text/train.$language" "${links[@]}" --source_lang en --target_lang "$language" \
    --template "{source} => {target}" --max_length 400 --dropout 0.1 --attention_dropout 0 --label_smoothing 0.1 \
    --attn_implementation eager --weight_decay 0.05 --adam_beta2 0.98 --bf16 --train_sampling_strategy group_by_length \
    --per_device_train_batch_size 32 --gradient_accumulation_steps 2 --max_steps "${TUNE_STEPS:-400}" \
    --learning_rate 5e-4 --lr_scheduler_type linear --warmup_steps 0.1 --save_steps 50 --save_total_limit 1 \
    --logging_steps 50 --report_to none --stream_sentences 0 --wait_k "$@"
}

train() {
  prepare
  for name in "${models[@]}"; do
    case $name in
      waitk) fine_tune waitk 1 3 5 7 full ;;
      taught) fine_tune taught 1 3 5 7 random-1-9 random-1-9 aligned-0-2 aligned-0-2 ;;
      untaught) fine_tune untaught 1 3 5 7 random-1-9 random-1-9 aligned-0-2-untaught aligned-0-2-untaught ;;
      paths) fine_tune paths random-1-9 ;;
      *) echo "MODELS must be of taught, waitk, paths, untaught, got $name." >&2 && exit 2 ;;
    esac
  done
}

translate() {
  for name in "${models[@]}"; do
    grep -q alignment_heads "$output/$name/generation_config.json" ||
      "$python" -m transformers_simul.cli heads "$output/$name" "$text/train.en" "$text/train.$language" \
        --alignment "$text/train.align" --max-samples 200
    local policies=("${all[@]}")
    if [ "$name" != taught ]; then policies=(--policies "${other[@]}"); fi
    "$python" benchmarks/policies.py "$output/$name" "$text/test.en" "$text/test.$language" --batch_size 64 \
      --output "$output/policies/$name" "${limit[@]}" "${policies[@]}" --laal 2 3 4 5 6 7 > /dev/null
  done
}

compare() {
  "$python" benchmarks/policies_halves.py "$output/policies" | tee "$output/halves.md"
}

for part in "${@:-train translate compare}"; do
  for name in $part; do "$name"; done
done
