#!/bin/sh
# Makes a root file system at $1 of the programs that run in the images, the libraries they load, and nothing else.
set -eu
root=$1
mkdir -p "$root/tmp" "$root/etc" "$root/usr/local/bin" "$root/app" "$root/proc" "$root/dev" "$root/sys" "$root/var/log/nginx"
chmod 1777 "$root/tmp"
# Debian keeps /bin, /lib and the like as links into /usr.
for link in bin sbin lib lib32 lib64 libx32; do
  [ ! -L "/$link" ] || cp -a "/$link" "$root/"
done
programs=
# The shell and what stay-up and the postStart hook call; fallocate punches holes; the rest is for kubectl exec.
for name in sh sleep date touch ln kill cat ls head tail mkdir rm mv cp chmod grep sed stat df ps id env fallocate; do
  path=$(command -v "$name") || continue
  case $path in /*) programs="$programs $path" ;; esac
done
for path in $programs /usr/local/bin/node; do
  mkdir -p "$root$(dirname "$(readlink -f "$(dirname "$path")")/x")"
  cp -L "$path" "$root$(readlink -f "$(dirname "$path")")/$(basename "$path")"
done
for path in $programs /usr/local/bin/node; do ldd "$path" 2>/dev/null || true; done |
  sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p' | sort -u |
  while read -r library; do
    directory=$(readlink -f "$(dirname "$library")")
    mkdir -p "$root$directory"
    cp -L "$library" "$root$directory/$(basename "$library")"
  done
for file in passwd group nsswitch.conf os-release debian_version; do
  [ ! -e "/etc/$file" ] || cp -L "/etc/$file" "$root/etc/$file"
done
"$root/usr/local/bin/node" --version
