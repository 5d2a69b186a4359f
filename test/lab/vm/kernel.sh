#!/bin/sh
# Puts Debian's kernel, unpacked and not installed, into the directory given: kernel.sh DIRECTORY. Does nothing if it is there.
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
cache=$1

ls "$cache"/kernel/boot/vmlinuz-* >/dev/null 2>&1 && exit 0
name=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
if [ -z "$name" ]; then
  echo "test/lab/vm/kernel.sh: apt-cache knows no linux-image-amd64; run apt-get update as root" >&2
  exit 1
fi
rm -rf "$cache/kernel" "$cache/download"
mkdir -p "$cache/download"
(cd "$cache/download" && apt-get download -qq "$name" 2>/dev/null)
dpkg-deb -x "$cache"/download/*.deb "$cache/unpacked"
depmod -b "$cache/unpacked" "$(basename "$cache"/unpacked/lib/modules/*)"
mv "$cache/unpacked" "$cache/kernel"
rm -rf "$cache/download"
