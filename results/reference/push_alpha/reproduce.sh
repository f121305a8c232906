#!/bin/sh
# From a checkout of ailft-bench to the figures of this bundle.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# What is checked out may lack this bundle, or have another one in its place.
kept=$(mktemp -d)
cp "$here/versions.txt" "$here/suite.yaml" "$kept"
git checkout c34097425340c6b32647451c116fa56d0bc39216
pip install -e . -r "$kept/versions.txt"
ailft-bench run "$kept/suite.yaml" --scale cpu --seeds 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14, --algorithms alpha_0,alpha_30
ailft-bench run "$kept/suite.yaml" --scale cpu --seeds 0,1,2,3,4, --algorithms alpha_10,alpha_100
ailft-bench plot push_alpha --scale cpu
