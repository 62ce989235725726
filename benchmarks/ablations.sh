#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# docs/results/ablations.md, on Multi30k English to German, from the base that benchmarks/multi30k.sh trained: training
# k against decoding k; prefix pairs at one k; the rows of the published code; ALiBi by length; another domain.
# Resumes. About 40 minutes on two cores.
# Usage: benchmarks/ablations.sh DATA_FOLDER OUTPUT_FOLDER
set -euo pipefail
data=$1 output=$2
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
common=(--source_lang en --target_langs de --template "{source} => {target}" --dropout 0.1 --label_smoothing 0.1
  --weight_decay 0.01 --report_to none --save_total_limit 1 --save_steps 100 --logging_steps 100 --disable_tqdm 1
  --lr_scheduler_type linear --warmup_steps 50 --predict_batch_size 64)
multi30k=(--model_name_or_path "$output/en-de/base" --learning_rate 5e-4 --train_file "$data/train.en.gz" "$data/train.de.gz"
  --test_file "$data/test_2016_flickr.en.gz" "$data/test_2016_flickr.de.gz")
short=(--max_length 256 --per_device_train_batch_size 32 --train_sampling_strategy group_by_length)

training_k() {
  for k in "3" "7" "1 3 5 7"; do
    # shellcheck disable=SC2086
    "$python" examples/run_experiment.py --output_dir "$output/ablations/train-k-${k// /-}" "${common[@]}" "${multi30k[@]}" \
      "${short[@]}" --systems SM-norec-mod+peek --training_k $k --max_steps 120 --max_predict_samples 400 \
      --flops_sentences 2
  done
}

lengths() {
  "$python" examples/run_experiment.py --output_dir "$output/ablations/long" "${common[@]}" "${multi30k[@]}" \
    --systems SM-norec SM-norec-mod SM-no-alibi --training_k 3 --eval_wait_k 3 --concatenate 12 --max_length 1000 \
    --per_device_train_batch_size 4 --max_steps 120 --max_predict_samples 100 --flops_sentences 2
  "$python" benchmarks/alibi_by_length.py "$output/ablations/long/en-de/models" "$data/test_2016_flickr.en.gz" \
    "$data/test_2016_flickr.de.gz" docs/results/alibi-by-length --lengths 1 4 12 24 --sentences 240
}

published_rows() {
  "$python" examples/run_experiment.py --output_dir "$output/ablations/rows" "${common[@]}" "${multi30k[@]}" "${short[@]}" \
    --systems SM-norec-mod SM-published-rows --max_steps 120 --max_predict_samples 400 --flops_sentences 2
}

other_domain() {
  "$python" examples/run_experiment.py --output_dir "$output/ablations/home-assistant" "${common[@]}" \
    --dataset_name home_assistant --num_hidden_layers 4 --num_attention_heads 8 --vocab_size 3000 --max_length 256 \
    --per_device_train_batch_size 16 --train_sampling_strategy group_by_length --learning_rate 5e-4 \
    --systems causal-offline causal-rec converse-norec SM-norec SM-norec-mod SM-norec-mod+peek \
    --base_steps 600 --max_steps 100 --max_predict_samples 300 --flops_sentences 2
}

prefix_at_one_k() {
  "$python" examples/run_experiment.py --output_dir "$output/ablations/one-k" "${common[@]}" "${multi30k[@]}" "${short[@]}" \
    --systems causal-rec prefix-rec SM-norec-mod --training_k 3 --eval_wait_k 3 --max_steps 60 \
    --max_predict_samples 400 --flops_sentences 2
}

{ lengths && other_domain; } &
first=$!
{ training_k && published_rows && prefix_at_one_k; } &
wait "$!"
wait "$first"
"$python" benchmarks/ablation_tables.py "$output" docs/results/ablations.md
