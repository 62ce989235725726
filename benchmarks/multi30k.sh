#!/usr/bin/env bash
# The tables of docs/results/multi30k.md: one model trained on full sentences per language pair, then fine-tuned for
# the same number of steps under each policy, with and without peek rows; German gets more steps than French.
# Resumes; about 70 minutes on two cores.
# Usage: benchmarks/multi30k.sh DATA_FOLDER OUTPUT_FOLDER   (files train.en.gz, val.de.gz, test_2016_flickr.fr.gz, ...)
set -euo pipefail
data=$1 output=$2
python=${PYTHON:-.venv/bin/python}

run() { # language, name, then flags
  local language=$1 name=$2
  shift 2
  "$python" examples/run_simul_translation.py --output_dir "$output/en-$language/$name" \
    --source_lang en --target_lang "$language" --template "{source} => {target}" --max_length 256 \
    --train_file "$data/train.en.gz" "$data/train.$language.gz" \
    --validation_file "$data/val.en.gz" "$data/val.$language.gz" \
    --test_file "$data/test_2016_flickr.en.gz" "$data/test_2016_flickr.$language.gz" \
    --do_train --dropout 0.1 --label_smoothing 0.1 --per_device_train_batch_size 32 --per_device_eval_batch_size 64 \
    --train_sampling_strategy group_by_length --save_steps 500 --save_total_limit 1 --logging_steps 100 \
    --report_to none --stream_sentences 0 --weight_decay 0.01 "$@"
}

for language in de fr; do
  if [ "$language" = de ]; then base_steps=4000 tune_steps=1000; else base_steps=1500 tune_steps=500; fi
  run "$language" base --wait_k full --vocab_size 5000 --max_steps $base_steps --learning_rate 1e-3 \
    --lr_scheduler_type inverse_sqrt --warmup_steps 400
  tune=(--model_name_or_path "$output/en-$language/base" --max_steps $tune_steps --learning_rate 5e-4
    --lr_scheduler_type linear --warmup_steps 50 --do_predict)
  run "$language" mixed-peek "${tune[@]}" --wait_k 1 3 5 7 full
  run "$language" mixed-nopeek "${tune[@]}" --wait_k 1 3 5 7 full --peek_rows 0
  if [ "$language" = de ]; then
    run "$language" k3-peek "${tune[@]}" --wait_k 3
  fi
done
