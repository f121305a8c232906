#!/bin/sh
# From a checkout of ailft-bench to the figures of this bundle.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# What is checked out may lack this bundle, or have another one in its place.
kept=$(mktemp -d)
cp "$here/versions.txt" "$here/suite.yaml" "$kept"
git checkout 4f39ebd24555203b8ed16292a93de1ac402b20ff
pip install -e . -r "$kept/versions.txt"
ailft-bench run "$kept/suite.yaml" --scale cpu --seeds 0,1, --algorithms alpha_0,alpha_1,alpha_10,alpha_100
ailft-bench plot kitchen_alpha --scale cpu
