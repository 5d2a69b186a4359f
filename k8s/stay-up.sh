#!/bin/sh
# Runs the sidecar and starts it again when it ends by itself. A container that ends, of a native sidecar too, makes its
# pod unready until it is back, and in CrashLoopBackOff for minutes: nginx would leave its Services for a log's sake.
child=
stopping=
trap 'stopping=1; kill -TERM "$child" 2>/dev/null' TERM INT
trap 'kill -USR1 "$child" 2>/dev/null' USR1
trap 'kill -HUP "$child" 2>/dev/null' HUP
while :; do
  realpod "$@" &
  child=$!
  while :; do
    wait "$child"
    status=$?
    # wait also returns for a signal; then the child still runs.
    kill -0 "$child" 2>/dev/null || break
  done
  [ -z "$stopping" ] || exit "$status"
  echo "realpod: ended with status $status, starting again in ${REALPOD_RESTART_SECONDS:-5} s" >&2
  sleep "${REALPOD_RESTART_SECONDS:-5}" &
  child=$!
  wait "$child"
  [ -z "$stopping" ] || exit 0
done
