#!/bin/sh
# From a checkout of ailft-bench to the figures of this bundle.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
git checkout a50d8545c21e8b5057d919a45ceb703284902983
pip install -e . -r "$here/versions.txt"
ailft-bench run "$here/suite.yaml" --scale cpu --seeds 0,1,
ailft-bench plot "$here/suite.yaml" --scale cpu
