#!/bin/sh
# From a checkout of ailft-bench to the figures of this bundle.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# What is checked out may lack this bundle, or have another one in its place.
kept=$(mktemp -d)
cp "$here/versions.txt" "$here/suite.yaml" "$kept"
git checkout bb34649ed3c6d1c0190edf6b73011a4ec24858a0
pip install -e . -r "$kept/versions.txt"
ailft-bench run "$kept/suite.yaml" --scale cpu --seeds 0,1,2,3,4, --algorithms bc,conservative,no_ail,vmail
git checkout da673a81c3a63a4b9c6deef19dfd31e76e4beead
pip install -e . -r "$kept/versions.txt"
ailft-bench run "$kept/suite.yaml" --scale cpu --seeds 0,1,2,3,4, --algorithms bc_cnn
git checkout ee8cd6e10ab4e74b874ebd21e0b06395c35c6271
pip install -e . -r "$kept/versions.txt"
ailft-bench run "$kept/suite.yaml" --scale long --seeds 0,1,2,3,4, --algorithms conservative,no_ail,vmail
ailft-bench plot kitchen --scale cpu
ailft-bench plot kitchen --scale long
