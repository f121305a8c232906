#!/bin/sh
# From a checkout of ailft-bench to the figures of this bundle.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# What is checked out may lack this bundle, or have another one in its place.
kept=$(mktemp -d)
cp "$here/versions.txt" "$here/suite.yaml" "$kept"
git checkout 408ebbdfdc3a7532d1c597d9c2669a18b1f35a90
pip install -e . -r "$kept/versions.txt"
ailft-bench run "$kept/suite.yaml" --scale cpu --seeds 0,1,2, --algorithms bc,conservative,no_ail,vmail
git checkout b501e9f40eb8fab43944508958840dbc1f8028a8
pip install -e . -r "$kept/versions.txt"
ailft-bench run "$kept/suite.yaml" --scale long --seeds 0,1,2,3,4, --algorithms conservative,no_ail,vmail
git checkout da673a81c3a63a4b9c6deef19dfd31e76e4beead
pip install -e . -r "$kept/versions.txt"
ailft-bench run "$kept/suite.yaml" --scale cpu --seeds 0,1,2, --algorithms bc_cnn
git checkout cbdc6923fc263514906788bfabb4e37e36064592
pip install -e . -r "$kept/versions.txt"
ailft-bench run "$kept/suite.yaml" --scale long --seeds 0,1,2,3,4, --algorithms bc
ailft-bench plot kitchen_hard --scale cpu
ailft-bench plot kitchen_hard --scale long
