#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# docs/results/pretrained: real pretrained weights, fine-tuned with adapters, every position strategy side by side.
# Resumes. Later flags win: the smaller tables of docs/results/pretrained.md were made with `--systems ...`, and the larger
# budget with `--max_train_samples 2560 --max_steps 160 --warmup_steps 16 --save_steps 80`; news with `--systems
# causal-offline causal-rec causal-norec SM-own-frame --max_train_samples 10000 --max_steps 625 --warmup_steps 20
# --save_steps 100 --max_predict_samples 500 --bf16 --train_sampling_strategy group_by_length`.
# Usage: benchmarks/pretrained.sh MODEL_FOLDER BOS DATA_FOLDER OUTPUT_FOLDER LANGUAGE [flags]
#   MODEL_FOLDER  from `python -m transformers_simul.checkpoints gemma3-270m FOLDER`
#   BOS           the text that begins every row: '<bos>' for Gemma, '<|im_start|>' for SmolLM2
#   DATA_FOLDER   with train.en.gz, test_2016_flickr.de.gz, ..., or train.en-de.en.gz, test.en-de.de.gz, ...; or
#                 `libreoffice`, which is downloaded
set -euo pipefail
model=$1 bos=$2 data=$3 output=$4 language=$5
python=${PYTHON:-.venv/bin/python}
if [ "$data" = libreoffice ]; then
  pairs=(--dataset_name libreoffice)
elif [ -e "$data/train.en-$language.en.gz" ]; then
  pairs=(--train_file "$data/train.en-$language.en.gz" "$data/train.en-$language.$language.gz"
    --test_file "$data/test.en-$language.en.gz" "$data/test.en-$language.$language.gz")
else
  pairs=(--train_file "$data/train.en.gz" "$data/train.$language.gz"
    --test_file "$data/test_2016_flickr.en.gz" "$data/test_2016_flickr.$language.gz")
fi

"$python" examples/run_experiment.py --output_dir "$output" --source_lang en --target_langs "$language" \
  --model_name_or_path "$model" --use_lora --template "$bos"$'{source_lang}: {source}\n{target_lang}: {target}' \
  --systems causal-offline causal-rec causal-norec converse-norec SM-own-frame SM-own-frame-rec SM-group SM-reserved \
  "${pairs[@]}" --max_length 256 \
  --max_train_samples 640 --max_predict_samples 100 --per_device_train_batch_size 16 --max_steps 40 \
  --learning_rate 5e-4 --lr_scheduler_type linear --warmup_steps 4 --save_steps 20 --save_total_limit 1 \
  --logging_steps 10 --report_to none --disable_tqdm 1 --flops_sentences 10 --predict_batch_size 32 "${@:6}"
