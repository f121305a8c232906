#!/bin/sh
# From a checkout of ailft-bench to the figures of this bundle.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# What is checked out may lack this bundle, or have another one in its place.
kept=$(mktemp -d)
cp "$here/versions.txt" "$here/suite.yaml" "$kept"
git checkout 08b8d513186762e3cf17c18dae93834256a2ee7a
pip install -e . -r "$kept/versions.txt"
ailft-bench run "$kept/suite.yaml" --scale cpu --seeds 0,1,2, --algorithms bc,conservative,no_ail,vmail
ailft-bench plot quickstart --scale cpu
