#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Core tests under several Pythons and releases of Transformers, each pair in a fresh environment. Needs the package index.
# Usage: tests/matrix.sh [python3.12=5.24.0 ...]
# Python 3.10 has Transformers 5.20.2 at most, which is also the oldest that the package takes.
set -uo pipefail
cd "$(dirname "$0")/.."
pairs=${*:-python3.10=5.20.2 python3.11=5.20.2 python3.11=5.24.0 python3.12=5.24.0 python3.13=5.24.0}
tests="tests/test_policies.py tests/test_masking.py tests/test_processing.py tests/test_data_collator.py
  tests/test_modeling_simul_falcon.py tests/test_streams.py tests/test_cli.py tests/test_evaluation.py tests/test_custom_generate.py
  tests/test_generation.py tests/test_families.py tests/test_remote_code.py"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0 ran=0
for pair in $pairs; do
  python=${pair%=*} version=${pair#*=} environment=$work/environment
  if ! "$python" -m venv "$environment" 2> "$work/errors"; then
    echo "$python: not here: $(head -1 "$work/errors")"
    continue
  fi
  ran=1
  # The pins are CI's, for one Python; here every Python takes what the bounds of setup.cfg allow it.
  if ! "$environment/bin/pip" install --quiet --disable-pip-version-check -e ".[measure,plot,page]" "transformers==$version" \
    torch==2.13.0 pytest hypothesis psutil 2> "$work/errors"; then
    result="FAILED: cannot be installed: $(tail -1 "$work/errors")" failed=1
  # shellcheck disable=SC2086
  elif "$environment/bin/python" -m pytest -p no:cacheprovider -m "not slow" $tests > "$work/out" 2>&1; then
    result=$(tail -1 "$work/out")
  else
    result="FAILED: $(grep -E "^(FAILED|ERROR)" "$work/out" | head -3 | tr '\n' ' ')" failed=1
  fi
  echo "$("$environment/bin/python" --version), transformers $version: $result"
  rm -rf "$environment"
done
test $ran = 1 || { echo "none of these Pythons is here: $pairs"; exit 1; }
exit $failed
