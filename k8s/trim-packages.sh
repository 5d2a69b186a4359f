#!/bin/sh
# Takes away from a node_modules folder what is never loaded at run time: types, source maps and texts for people.
# Licences stay.
set -eu
cd "$1"
find . -type f \( -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' -o -name '*.map' -o -name '*.tsbuildinfo' \
  -o -iname '*.md' \) ! -iname '*licen[sc]e*' ! -iname '*notice*' -delete
find . -depth -type d -empty -delete
