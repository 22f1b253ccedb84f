#!/usr/bin/env bash
# Measure what a GPU changes, in at most seven minutes and without network: `benchmarks/gpu.sh [--dry] [--parts ...]`.
#
# Takes the Python of $PYTHON (default: python3), which needs torch and transformers. What else it lacks is unpacked from
# build/gpu-packages.tar.gz, which benchmarks/pack.py makes on a machine that has it. Results: $OUT, or build/gpu.
set -euo pipefail
cd "$(dirname "$0")/.."
archive=build/gpu-packages.tar.gz packages=build/gpu-packages
if [ -e "$archive" ] && [ ! "$packages" -nt "$archive" ]; then
    rm -rf "$packages" && mkdir -p "$packages"
    tar xzf "$archive" -C "$packages" && touch "$packages"
fi
export PYTHONPATH="$PWD:$PWD/$packages" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
exec "${PYTHON:-python3}" benchmarks/gpu.py "$@"
