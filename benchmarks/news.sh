#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The paper's systems on news of 20 words a sentence: a base trained on all text there is, then every system fine-tuned on
# news with as many examples seen, and translated at k = 1, 3, 5, 7; tables by source length. One language a call, so that
# two can run side by side, a core each. Resumes. For models only that are measured, not shipped: these texts' licences say so.
# Usage: benchmarks/news.sh de|fr DATA_FOLDER OUTPUT_FOLDER   (DATA_FOLDER/{tatoeba,multi30k,news}/...)
set -euo pipefail
language=$1 data=$2 output=$3/en-$1
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
mkdir -p "$output/text"

for code in en "$language"; do
  zcat "$data/tatoeba/train.en-$language.$code.gz" "$data/multi30k/train.$code.gz" \
    "$data/news/train.en-$language.$code.gz" > "$output/text/all.$code"
done

common=(--source_lang en --template "{source} => {target}" --max_length 320 --dropout 0.1 --attention_dropout 0
  --attn_implementation eager --label_smoothing 0.1 --weight_decay 0.05 --adam_beta2 0.98 --bf16 --report_to none
  --save_total_limit 1 --logging_steps 100 --per_device_train_batch_size 64 --train_sampling_strategy group_by_length)
news=(--train_file "$data/news/train.en-$language.en.gz" "$data/news/train.en-$language.$language.gz"
  --test_file "$data/news/test.en-$language.en.gz" "$data/news/test.en-$language.$language.gz")

"$python" examples/run_simul_translation.py --output_dir "$output/base" --target_lang "$language" "${common[@]}" \
  --train_file "$output/text/all.en" "$output/text/all.$language" --stream_sentences 0 --save_steps 500 \
  --validation_file "$data/news/dev.en-$language.en.gz" "$data/news/dev.en-$language.$language.gz" \
  --eval_strategy steps --eval_steps 1000 --do_train --wait_k full --peek_rows 0 --vocab_size 8000 \
  --hidden_size 320 --num_hidden_layers 6 --num_attention_heads 8 --max_steps "${BASE_STEPS:-12000}" \
  --learning_rate 8e-4 --lr_scheduler_type constant_with_warmup --warmup_steps 500
"$python" examples/run_experiment.py --output_dir "$output/systems" --target_langs "$language" "${common[@]}" "${news[@]}" \
  --model_name_or_path "$output/base" --max_steps "${TUNE_STEPS:-800}" --save_steps 100 --learning_rate 5e-4 \
  --lr_scheduler_type linear --warmup_steps 50 --flops_sentences 100 --predict_batch_size 64
for k in 1 3 5 7; do
  echo
  echo "## k = $k"
  "$python" benchmarks/by_length.py "$output/systems/en-$language/logs" "$k"
done | tee "$output/by_length.md"
