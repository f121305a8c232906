#!/bin/sh
# From a checkout of ailft-bench to the figures of this bundle.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
git checkout bb34649ed3c6d1c0190edf6b73011a4ec24858a0
pip install -e . -r "$here/versions.txt"
ailft-bench run "$here/suite.yaml" --scale cpu --seeds 0,1,2,3,4,
ailft-bench plot "$here/suite.yaml" --scale cpu
