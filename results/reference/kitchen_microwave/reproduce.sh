#!/bin/sh
# From a checkout of ailft-bench to the figures of this bundle.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# What is checked out may lack this bundle, or have another one in its place.
kept=$(mktemp -d)
cp "$here/versions.txt" "$here/suite.yaml" "$kept"
git checkout a50d8545c21e8b5057d919a45ceb703284902983
pip install -e . -r "$kept/versions.txt"
ailft-bench run "$kept/suite.yaml" --scale cpu --seeds 0,1, --algorithms conservative,no_ail,vmail,bc
ailft-bench plot kitchen_microwave --scale cpu
