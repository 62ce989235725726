#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# docs/results/multi30k: the paper's systems on English to German and French. A small model trained on full sentences,
# then every system fine-tuned from it for as many steps on the same pairs. Resumes. The languages run side by side, a
# core each; about two hours.
# Usage: benchmarks/multi30k.sh DATA_FOLDER OUTPUT_FOLDER   (files train.en.gz, test_2016_flickr.fr.gz, ...)
set -euo pipefail
data=$1 output=$2
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

compare() { # language, further flags of the comparison
  local common=(--source_lang en --template "{source} => {target}" --max_length 256 --dropout 0.1 --label_smoothing 0.1
    --train_file "$data/train.en.gz" "$data/train.$1.gz" --report_to none --save_total_limit 1 --logging_steps 100
    --test_file "$data/test_2016_flickr.en.gz" "$data/test_2016_flickr.$1.gz" --weight_decay 0.01
    --per_device_train_batch_size 32 --train_sampling_strategy group_by_length --disable_tqdm 1)
  "$python" examples/run_simul_translation.py --output_dir "$output/en-$1/base" --target_lang "$1" "${common[@]}" \
    --validation_file "$data/val.en.gz" "$data/val.$1.gz" --stream_sentences 0 --save_steps 500 \
    --do_train --wait_k full --vocab_size 5000 --max_steps 3000 --learning_rate 1e-3 \
    --lr_scheduler_type inverse_sqrt --warmup_steps 400
  "$python" examples/run_experiment.py --output_dir "$output/systems" --target_langs "$1" "${common[@]}" \
    --model_name_or_path "$output/en-$1/base" --max_steps 400 --save_steps 100 --learning_rate 5e-4 \
    --lr_scheduler_type linear --warmup_steps 50 --flops_sentences 30 --predict_batch_size 64 "${@:2}"
}

compare de &
first=$!
compare fr --max_predict_samples 500 &
wait "$!"
wait "$first"
