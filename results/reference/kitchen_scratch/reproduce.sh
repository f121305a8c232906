#!/bin/sh
# From a checkout of ailft-bench to the figures of this bundle.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
git checkout b2ff85d791e736a789d45aa60cc06b100f2792d1
# some runs were made at commit eb37e9fc8fe9744c06979d767426e76c5593e952
pip install -e . -r "$here/versions.txt"
ailft-bench run "$here/suite.yaml" --scale cpu --seeds 0,1,2,
ailft-bench plot "$here/suite.yaml" --scale cpu
