#!/bin/sh
# What the IPVS check needs beside the lab's packages: an emulator, a static shell, and Debian's kernel, unpacked into
# the directory given (it is not installed here). Run as root; does nothing if all is there.
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
cache=$1

missing=''
need() { # command package
  command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need qemu-system-x86_64 qemu-system-x86
need ipvsadm ipvsadm
need cpio cpio
need depmod kmod
[ -x /bin/busybox ] || missing="$missing busybox-static"
ls "$cache"/kernel/boot/vmlinuz-* >/dev/null 2>&1 && kernel=yes || kernel=''
[ -z "$missing" ] && [ "$kernel" ] && exit 0

if [ "$(id -u)" != 0 ]; then
  echo "test/lab/vm/install.sh: missing:$missing or the kernel; run this script as root" >&2
  exit 1
fi
if ! command -v apt-get >/dev/null 2>&1; then
  echo "test/lab/vm/install.sh: missing:$missing; there is no apt-get here, install them by hand" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
[ -z "$missing" ] || apt-get install -y -qq --no-install-recommends $missing >/dev/null
if [ -z "$kernel" ]; then
  name=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
  rm -rf "$cache/kernel" "$cache/download"
  mkdir -p "$cache/download"
  (cd "$cache/download" && apt-get download -qq "$name" 2>/dev/null)
  dpkg-deb -x "$cache"/download/*.deb "$cache/unpacked"
  depmod -b "$cache/unpacked" "$(basename "$cache"/unpacked/lib/modules/*)"
  mv "$cache/unpacked" "$cache/kernel"
  rm -rf "$cache/download"
fi
