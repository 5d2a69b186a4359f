#!/bin/sh
# Installs Debian's Chromium for the page's tests, if none is here. Run as root.
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

[ -x "${REALPOD_CHROMIUM:-/usr/bin/chromium}" ] && exit 0

if [ "$(id -u)" != 0 ]; then
  echo "test/page/install.sh: chromium is missing; run this script as root, or set REALPOD_CHROMIUM" >&2
  exit 1
fi
if ! command -v apt-get >/dev/null 2>&1; then
  echo "test/page/install.sh: chromium is missing and there is no apt-get here; set REALPOD_CHROMIUM" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends chromium >/dev/null
