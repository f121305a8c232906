#!/bin/sh
# From a checkout of ailft-bench to the figures of this bundle.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# What is checked out may lack this bundle, or have another one in its place.
kept=$(mktemp -d)
cp "$here/versions.txt" "$here/suite.yaml" "$kept"
git checkout eb37e9fc8fe9744c06979d767426e76c5593e952
pip install -e . -r "$kept/versions.txt"
ailft-bench run "$kept/suite.yaml" --scale cpu --seeds 0,1,2, --algorithms vmail
ailft-bench run "$kept/suite.yaml" --scale cpu --seeds 0,1,2, --algorithms conservative --set scales.cpu.algorithms.conservative.alpha=300
git checkout b2ff85d791e736a789d45aa60cc06b100f2792d1
pip install -e . -r "$kept/versions.txt"
ailft-bench run "$kept/suite.yaml" --scale cpu --seeds 0,1,2, --algorithms bc,no_ail
ailft-bench plot kitchen_scratch --scale cpu
