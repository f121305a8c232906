#!/bin/sh
# From a checkout of ailft-bench to the figures of this bundle.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
git checkout 47525d97f38ea0cdd86a199d67593d65f260665e
pip install -e . -r "$here/versions.txt"
ailft-bench run "$here/suite.yaml" --scale cpu --seeds 0,1,2,
ailft-bench plot "$here/suite.yaml" --scale cpu
