#!/bin/sh
# What both recipes do within a Debian 12 image: LongGen and its pipeline in /opt/venv, from the sources in /opt/longgen.
set -eu
apt-get update
# a C compiler: Triton builds a small library for every kernel that it starts
apt-get install -y --no-install-recommends ca-certificates gcc git libc6-dev make python3-dev python3-venv
rm -rf /var/lib/apt/lists/*
python3 -m venv /opt/venv
/opt/venv/bin/pip install --no-cache-dir --constraint /opt/longgen/constraints.txt \
    "/opt/longgen[pipeline,kernels,data,eval,lm-eval]"
