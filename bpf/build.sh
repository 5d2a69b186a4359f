#!/bin/sh
# Builds realpod-trace, what the source `trace` needs, into this directory. Needs clang and Debian's libbpf-dev (with
# libelf-dev and zlib1g-dev, which it depends on); the result needs no library.
set -eu
cd "$(dirname "$0")"
case "$(uname -m)" in
  x86_64) arch=x86 ;;
  aarch64) arch=arm64 ;;
  *)
    echo "bpf/build.sh: not for $(uname -m)" >&2
    exit 1
    ;;
esac
include="-I/usr/include/$(uname -m)-linux-gnu"
clang -O2 -g -Wall -Wno-gnu-variable-sized-type-not-at-end -target bpf "-D__TARGET_ARCH_$arch" "$include" -c trace.bpf.c -o trace.bpf.o
clang -O2 -Wall -Wextra -Wno-gnu-variable-sized-type-not-at-end -static loader.c lines.c ring.c -o realpod-trace -lbpf -lelf -lz
rm trace.bpf.o
