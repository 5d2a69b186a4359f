#!/bin/sh
# Installs Debian packages whose commands (or files, by path) are missing here: install.sh COMMAND:PACKAGE… Run as root;
# does nothing, also as another user, if all are there.
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

look() {
  missing=''
  for need in "$@"; do
    command -v "${need%%:*}" >/dev/null 2>&1 || [ -e "${need%%:*}" ] || missing="$missing ${need#*:}"
  done
}

look "$@"
[ -z "$missing" ] && exit 0

if [ "$(id -u)" != 0 ]; then
  echo "test/install.sh: missing:$missing; run this as root" >&2
  exit 1
fi
if ! command -v apt-get >/dev/null 2>&1; then
  echo "test/install.sh: missing:$missing; there is no apt-get here, install them by hand" >&2
  exit 1
fi

# Two suites may start at the same time.
if command -v flock >/dev/null 2>&1; then
  exec 9>/tmp/.realpod-install.lock
  flock 9
  look "$@"
  [ -z "$missing" ] && exit 0
fi

# Debian starts a service right after its installation. A policy of "not allowed" (101) keeps nginx from taking port 80.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  trap 'exit 1' HUP INT TERM
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null

look "$@"
if [ -n "$missing" ]; then
  echo "test/install.sh: still missing:$missing" >&2
  exit 1
fi
