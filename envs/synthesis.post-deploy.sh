#!/usr/bin/env bash
# Completes the environment of synthesis.yaml: CLIP's vocabulary ships inside mmsegmentation, whose other requirements
# synthesis doesn't need. Runs once, where Snakemake was started, with the environment active.
set -euo pipefail

python -m pip install --no-deps onedl-mmsegmentation==1.4.2
python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("mmseg") is None)'
