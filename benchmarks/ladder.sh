#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A ladder of model sizes on news: for each, a base from scratch and three systems tuned from it, by benchmarks/news.sh;
# then what SimulMask is ahead, by size, with a line through the points, and what the kept cache saves. Resumes.
# Two calls with other SIZES can run side by side, a core each, but for the times; a last one with all of them draws the
# line.
# Usage: benchmarks/ladder.sh de|fr DATA_FOLDER OUTPUT_FOLDER
#   Environment: SIZES="256x4 384x6 512x8"  width x layers       POINTS  further points for benchmarks/ladder.py
#                BASE_STEPS, TUNE_STEPS, SENTENCES  as in benchmarks/news.sh
set -euo pipefail
# Every rung begins anew, in one thread.
unset START VOCABULARY
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
language=$1 data=$2 output=$3
python=${PYTHON:-.venv/bin/python}
read -ra sizes <<< "${SIZES:-256x4 384x6 512x8}"
read -ra points <<< "${POINTS:-}"
export SYSTEMS='causal-rec causal-norec SM-norec-mod'
for size in "${sizes[@]}"; do
  if [[ ! $size =~ ^[0-9]+x[0-9]+$ ]]; then
    echo "error: SIZES must be of the form WIDTHxLAYERS, got $size" >&2
    exit 1
  fi
done
for size in "${sizes[@]}"; do
  WIDTH=${size%x*} LAYERS=${size#*x} benchmarks/news.sh "$language" "$data" "$output/$size" base systems
  experiment=$output/$size/en-$language/systems/en-$language
  millions=$("$python" -c '
import sys
from transformers_simul import AutoSimulModel
print(f"{AutoSimulModel.from_pretrained(sys.argv[1]).num_parameters() / 1e6:.1f}")' "$experiment/models/causal")
  points+=("$millions=$experiment/logs")
  if [ ! -s "$output/$size/time.md" ]; then
    "$python" benchmarks/pretrained_time.py "$experiment" "$data/news/test.en-$language.en.gz" > "$output/$size/time.tmp"
    mv "$output/$size/time.tmp" "$output/$size/time.md"
  fi
  cat "$output/$size/time.md"
done
if [ "${#points[@]}" -gt 1 ]; then
  "$python" benchmarks/ladder.py "$output/ladder.png" "${points[@]}" | tee "$output/ladder.md"
fi
