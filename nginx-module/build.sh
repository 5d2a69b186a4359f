#!/bin/sh
# build.sh SOURCE OUTPUT: the module for the nginx that SOURCE is the source of, as OUTPUT.
# SOURCE: /usr/share/nginx/src (Debian's package nginx-dev), or an unpacked nginx-VERSION.tar.gz. It is not written to.
# --with-compat, which Debian's nginx and the official images are built with, makes the module independent of their other options.
set -eu
[ $# = 2 ] || { echo "usage: build.sh SOURCE OUTPUT" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -rL "$source/." "$work"
cd "$work"
./configure --with-compat --with-threads --with-http_ssl_module --with-cc-opt='-O2 -fPIC' --add-dynamic-module="$here" >configure.out 2>&1 \
    || { cat configure.out >&2; exit 1; }
make -f objs/Makefile modules >make.out 2>&1 || { cat make.out >&2; exit 1; }
cd "$OLDPWD"
cp "$work/objs/ngx_http_upstream_local_port_module.so" "$2"
