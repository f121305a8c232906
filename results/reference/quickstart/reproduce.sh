#!/bin/sh
# From a checkout of ailft-bench to the figures of this bundle.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
git checkout 9dd41a99790c2be4acb15165b718309d74c5fd32
pip install -e . -r "$here/versions.txt"
ailft-bench run "$here/suite.yaml" --scale cpu --seeds 0,1,2,
ailft-bench plot "$here/suite.yaml" --scale cpu
