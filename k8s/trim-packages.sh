#!/bin/sh
# Takes away from a node_modules folder what is never loaded at run time: types, source maps, texts for people, packages'
# own tests, sources of what is compiled, and libraries for another libc or for Bare, another runtime. Licences stay.
set -eu
cd "$1"
find . -name package.json -type f -exec dirname {} \; | while read -r package; do
  for name in test tests benchmark benchmarks example examples docs integration coverage musl_x64 musl_arm64; do
    rm -rf "${package:?}/$name"
  done
done
find . -type f ! -iname '*licen[sc]e*' ! -iname '*notice*' ! -name .package-lock.json \( -name '*.ts' -o -name '*.mts' -o -name '*.cts' \
  -o -name '*.map' -o -name '*.tsbuildinfo' -o -iname '*.md' -o -iname '*.markdown' -o -name '*.yml' -o -name '.*' -o -name '*.bare' \
  -o -name '*.c' -o -name '*.cc' -o -name '*.h' -o -name '*.hh' -o -name '*.S' -o -name '*.html' -o -name '*.zip' \) -delete
find . -depth -type d -empty -delete
