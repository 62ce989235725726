#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# DeepSpeed ZeRO-3 in two processes on a CPU: the tests that are skipped where DeepSpeed is not installed. Needs the
# package index and a C++ compiler, with which DeepSpeed builds what its processes talk through.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/environment"
export PATH="$work/environment/bin:$PATH"
pip install --quiet --disable-pip-version-check --constraint constraints.txt -e ".[lora]" pytest hypothesis
# Its own build looks at the torch that is there.
DS_BUILD_OPS=0 pip install --quiet --disable-pip-version-check --no-build-isolation setuptools wheel "deepspeed>=0.19"
python -m pytest -p no:cacheprovider tests/test_distributed.py -k "zero3"
