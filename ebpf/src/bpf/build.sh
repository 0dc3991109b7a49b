#!/usr/bin/env bash
# Builds the object that is committed, the same octets from any folder: build.sh OUTPUT.
set -euo pipefail
out="$(realpath "$1")"
cd "$(dirname "$0")"
clang-14 -O2 -g -target bpf -mcpu=v3 -Wall -Werror -ffile-prefix-map="$PWD"=. -fdebug-compilation-dir=. -c sampler.bpf.c -o "$out"
llvm-strip-14 -g "$out"
(cd "$(dirname "$out")" && sha256sum "$(basename "$out")" > "$(basename "$out").sha256")
