#!/usr/bin/env bash
# Completes the environment of segmentation.yaml. Snakemake runs it once, on the machine where Snakemake runs, with the
# environment active. Needs no GPU. Compiling takes about 35 CPU minutes for the CPU part and more for CUDA.
set -euo pipefail

export FORCE_CUDA=1 MMCV_WITH_OPS=1 CUDA_HOME=$CONDA_PREFIX
# conda's CUDA has a folder of headers and libraries per target.
export CPATH=$CONDA_PREFIX/targets/x86_64-linux/include${CPATH:+:$CPATH}
export LIBRARY_PATH=$CONDA_PREFIX/targets/x86_64-linux/lib${LIBRARY_PATH:+:$LIBRARY_PATH}
# V100 and H100/H200. Other GPUs: set it before the first run (A100: 8.0).
export TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST:-7.0;9.0}

python -m pip install --no-deps onedl-mmengine==0.10.12 onedl-mmsegmentation==1.4.2 onedl-mmdetection==3.5.1
# Never from pip's cache: the wheel without ops has the same name and version.
python -m pip install --no-deps --no-build-isolation --no-cache-dir --no-binary :all: onedl-mmcv==2.3.6
python -c 'import torch, mmcv._ext, mmseg, mmdet'
