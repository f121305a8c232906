#!/bin/sh
# From a checkout of ailft-bench to the figures of this bundle.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
git checkout 96d7d53f4f108934f1354d2dc536591eef662d36
# some runs were made at commit 365afbc656fa9ed08e9b534f0fb05b172dd6fbb0
pip install -e . -r "$here/versions.txt"
ailft-bench run "$here/suite.yaml" --scale cpu --seeds 0,1,2,
ailft-bench plot "$here/suite.yaml" --scale cpu
