#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Does SimulMask carry over to speech? Short sentences of common words, spoken by espeak-ng in four voices; an encoder that
# learns to transcribe them; from there a model under SimulMask and an offline one; the cascade beside them. Resumes.
# Usage: benchmarks/speech.sh DATA_FOLDER OUTPUT_FOLDER   (DATA_FOLDER/tatoeba/{train,test}.en-de.{en,de}.gz)
#   Environment: UTTERANCES  of the training set (40,000)    HEARING_STEPS, STEPS  of 16 utterances each (5,000; 2,500)
set -euo pipefail
data=$1/tatoeba output=$2
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

"$python" benchmarks/speech_pairs.py "$output/pairs" --common 700 --most_words 10 --train "${UTTERANCES:-40000}" --test 600 \
  --train_file "$data"/train.en-de.{en,de}.gz --test_file "$data"/test.en-de.{en,de}.gz
"$python" examples/run_simul_speech.py --output_dir "$output/out" --speech_dir "$output/data" \
  --train_file "$output"/pairs/train.{source,target} --test_file "$output"/pairs/test.{source,target} \
  --noisy 0.25 --voices en-us+f2 en-us+m3 en-gb+m1 en-gb+f4 \
  --model_name_or_path models/falcon-en-de-offline --cascade_model models/simul-falcon-en-de \
  --template "{source} => {target}" --attn_implementation eager --label_smoothing 0.1 \
  --chunk_ms 360 --context_ms 480 --unit_tokens 3 --frame_ms 40 --mel_bins 40 \
  --encoder_size 192 --encoder_layers 4 --encoder_heads 6 --keep_features \
  --transcription_steps "${HEARING_STEPS:-5000}" --transcription_learning_rate 2e-3 \
  --per_device_train_batch_size 16 --max_steps "${STEPS:-2500}" --learning_rate 5e-4 --warmup_steps 200 \
  --lr_scheduler_type linear --adam_beta2 0.98 --weight_decay 0.01 --bf16 --report_to none --save_steps 500 \
  --save_total_limit 1 --logging_steps 100 --eval_wait_k 1 2 3 5 --flops_utterances 10
