#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every claim about speed on one graphics card, in ten minutes; prints a table with the card's name.
# Usage: benchmarks/gpu.sh [--device cuda:1]; without a card, --device cpu --tiny runs every line and proves no speed.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-.venv/bin/python}" -W ignore benchmarks/gpu.py "$@"
