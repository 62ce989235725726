#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The paper's claims on news of 20 words a sentence: a base trained on all text there is, then every system fine-tuned on
# news with as many examples seen, and translated at k = 1, 3, 5, 7, by source length (`systems`); the same models,
# untouched, on other corpora (`elsewhere`); ALiBi as modified, plain and none on 1 to 8 consecutive sentences (`lengths`);
# the prefix systems where only an EOS of more than half the probability ends a text, or READs on (`ends`).
# One language a call, so that two can run side by side, a core each. Resumes. For models only that are measured, not
# shipped: these texts' licences say so.
# Usage: benchmarks/news.sh de|fr DATA_FOLDER OUTPUT_FOLDER [base|systems|elsewhere|lengths|ends ...]
#   DATA_FOLDER holds tatoeba, multi30k, news and ted. Environment:
#   START=models/falcon-en-de-offline  go on from a model that knows the free corpora; without it the base begins anew.
#              `elsewhere` then leaves LibreOffice's help out, of which this model has seen every sentence
#   VOCABULARY=8000  with START, for another language: tokens of a new vocabulary made for this text
#   WIDTH, LAYERS  of a base that begins anew; 320 and 6 unless told
#   BASE_STEPS, TUNE_STEPS, LONG_STEPS  of 64 rows each
#   SYSTEMS  names; the paper's unless told      SENTENCES  of the test set; all unless told
#   TRANSLATED  of these, for BLEU in `lengths`; 480 unless told
set -euo pipefail
language=$1 data=$2 output=$3/en-$1
shift 3
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
mkdir -p "$output/text"

rows=(--source_lang en --template "{source} => {target}" --max_length 400 --dropout 0.1 --attention_dropout 0
  --attn_implementation eager --label_smoothing 0.1 --weight_decay 0.05 --adam_beta2 0.98 --bf16 --report_to none
  --save_total_limit 1 --logging_steps 100 --per_device_train_batch_size 32 --gradient_accumulation_steps 2
  --train_sampling_strategy group_by_length)
tune=("${rows[@]}" --target_langs "$language" --model_name_or_path "$output/base" --save_steps 100 --learning_rate 5e-4
  --lr_scheduler_type linear --warmup_steps 50 --predict_batch_size 64
  --train_file "$data/news/train.en-$language.en.gz" "$data/news/train.en-$language.$language.gz")
test=(--test_file "$data/news/test.en-$language.en.gz" "$data/news/test.en-$language.$language.gz")
read -ra chosen <<< "${SYSTEMS:+--systems $SYSTEMS}"
read -ra limit <<< "${SENTENCES:+--max_predict_samples $SENTENCES}"

base() {
  # News is there sentence by sentence, and as 2 and 4 consecutive sentences of a document in one row.
  for code in en "$language"; do
    zcat "$data/news/train.en-$language.$code.gz" > "$output/text/news.$code"
    {
      zcat "$data/tatoeba/train.en-$language.$code.gz" "$data/multi30k/train.$code.gz"
      cat "$output/text/news.$code"
      paste -d ' ' - - < "$output/text/news.$code"
      paste -d ' ' - - - - < "$output/text/news.$code"
    } > "$output/text/all.$code"
  done
  local from=(--vocab_size 8000 --hidden_size "${WIDTH:-320}" --num_hidden_layers "${LAYERS:-6}" --num_attention_heads 8)
  if [ -n "${START:-}" ]; then
    from=(--model_name_or_path "$START" ${VOCABULARY:+--new_vocabulary --vocab_size "$VOCABULARY"})
  elif [ -n "${VOCABULARY:-}" ]; then
    echo "error: VOCABULARY needs START, the model that gets it" >&2
    exit 1
  fi
  "$python" examples/run_simul_translation.py --output_dir "$output/base" --target_lang "$language" "${rows[@]}" \
    --train_file "$output/text/all.en" "$output/text/all.$language" --stream_sentences 0 --save_steps 250 \
    --validation_file "$data/news/dev.en-$language.en.gz" "$data/news/dev.en-$language.$language.gz" \
    --eval_strategy steps --eval_steps 1000 --do_train --wait_k full --peek_rows 0 "${from[@]}" \
    --max_steps "${BASE_STEPS:-12000}" --learning_rate 8e-4 --lr_scheduler_type constant_with_warmup --warmup_steps 300
}

systems() {
  "$python" examples/run_experiment.py --output_dir "$output/systems" "${tune[@]}" "${test[@]}" "${chosen[@]}" \
    "${limit[@]}" --max_steps "${TUNE_STEPS:-800}" --flops_sentences 100
  for k in 1 3 5 7; do
    printf '\n## k = %s\n\n' "$k"
    "$python" benchmarks/by_length.py "$output/systems/en-$language/logs" "$k"
  done | tee "$output/by_length.md"
  "$python" benchmarks/by_latency.py "$output/systems/en-$language/logs" | tee "$output/by_latency.md"
}

elsewhere() {
  translate tatoeba "$data/tatoeba/test.en-$language.en.gz" "$data/tatoeba/test.en-$language.$language.gz"
  translate multi30k "$data/multi30k/test_2016_flickr.en.gz" "$data/multi30k/test_2016_flickr.$language.gz"
  if [ "$language" = de ]; then translate ted "$data/ted/dev.en-de.en.gz" "$data/ted/dev.en-de.de.gz"; fi
  # The shipped models were trained on all of LibreOffice's help.
  if ! grep -q models/falcon-en-de-offline "$output/base/training.json"; then
    local help=$output/text/libreoffice
    [ -s "$help/test.$language" ] || "$python" -m transformers_simul.cli corpus libreoffice en "$language" "$help"
    translate libreoffice "$help/test.en" "$help/test.$language"
  fi
  local logs=("news=$output/systems/en-$language/logs")
  for folder in "$output"/elsewhere/*; do logs+=("${folder##*/}=$folder/en-$language/logs"); done
  for k in 1 3 5 7; do
    printf '\n## k = %s\n\n' "$k"
    "$python" benchmarks/by_corpus.py "$k" "${logs[@]}"
  done | tee "$output/by_corpus.md"
}

translate() { # name, source, target: with the models of `systems`
  mkdir -p "$output/elsewhere/$1/en-$language"
  ln -sfn "$(realpath "$output/systems/en-$language/models")" "$output/elsewhere/$1/en-$language/models"
  "$python" examples/run_experiment.py --output_dir "$output/elsewhere/$1" "${tune[@]}" --test_file "$2" "$3" "${chosen[@]}" \
    "${limit[@]}" --max_steps "${TUNE_STEPS:-800}" --flops_sentences 2
}

lengths() {
  "$python" examples/run_experiment.py --output_dir "$output/lengths" "${tune[@]}" "${test[@]}" --concatenate 4 \
    --max_length 900 --per_device_train_batch_size 16 --gradient_accumulation_steps 4 \
    --systems SM-norec SM-norec-mod SM-no-alibi --training_k 3 --eval_wait_k 3 --max_steps "${LONG_STEPS:-400}" \
    --max_predict_samples 50 --flops_sentences 2
  "$python" benchmarks/alibi_by_length.py "$output/lengths/en-$language/models" "${test[@]:1}" "$output/alibi-by-length" \
    ${SENTENCES:+--sentences "$SENTENCES"} --translate-sentences "${TRANSLATED:-480}"
}

ends() {
  # Each prefix row teaches an EOS after a word or a few, so that it is soon the likeliest single token. At k = 3 these
  # systems lag by 5 words and more already.
  local folder=$output/ends/en-$language all=$output/systems/en-$language
  mkdir -p "$folder/models" "$folder/logs"
  cp -rn "$all/models/prefix" "$folder/models"
  sed -i 's/"_from_model_config": true/"eos_threshold": 0.5/' "$folder/models/prefix/generation_config.json"
  "$python" examples/run_experiment.py --output_dir "$output/ends" "${tune[@]}" "${test[@]}" \
    --systems prefix-rec prefix-norec --eval_wait_k 1 3 "${limit[@]}" --max_steps "${TUNE_STEPS:-800}" --flops_sentences 2
  cp -r "$all/logs/SM-norec-mod" "$folder/logs"
  {
    sed -n '/^| system | policy/,/^$/p' "$folder/results.md"
    "$python" benchmarks/by_latency.py "$folder/logs"
  } | tee "$output/ends.md"
}

for part in "${@:-base systems elsewhere lengths ends}"; do
  for name in $part; do "$name"; done
done
