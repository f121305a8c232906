#!/bin/sh
# From a checkout of ailft-bench to the figures of this bundle.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
git checkout 408ebbdfdc3a7532d1c597d9c2669a18b1f35a90
pip install -e . -r "$here/versions.txt"
ailft-bench run "$here/suite.yaml" --scale cpu --seeds 0,1,2,
ailft-bench plot "$here/suite.yaml" --scale cpu
