#!/bin/sh
# From a checkout of ailft-bench to the figures of this bundle.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
git checkout 4886bcb47d92e56a31d3ed62b4569899ccae56d2
# some runs were made at commit 4f39ebd24555203b8ed16292a93de1ac402b20ff
pip install -e . -r "$here/versions.txt"
ailft-bench run "$here/suite.yaml" --scale cpu --seeds 0,1,2,
ailft-bench plot "$here/suite.yaml" --scale cpu
