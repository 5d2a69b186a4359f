#!/bin/sh
# Runs `realpod sidecar` and starts it again when it fails. A container that ends, of a native sidecar too, makes its pod
# unready until it is back, and in CrashLoopBackOff for minutes: nginx would leave its Services for a log's sake.
# Other commands run once. So does a sidecar with a bad command line (status 2), which is the pod's own; bad variables end
# no container where REALPOD_ON_BAD_OPTIONS is `pass`, as in the image.
case " $* " in
  *" --help "* | *" -h "*) exec realpod "$@" ;;
  " sidecar "*) ;;
  *) exec realpod "$@" ;;
esac
# The kernel ends a whole container that exceeds its memory (cgroup v2), and Node's own limit may be above that: keep V8's
# below it, so that only the sidecar ends. Version 2 of cgroups, then version 1; without a limit there is nothing to do.
cgroup=${REALPOD_CGROUP:-/sys/fs/cgroup}
limit=$(cat "$cgroup/memory.max" 2>/dev/null || cat "$cgroup/memory/memory.limit_in_bytes" 2>/dev/null)
case $limit in
  *[!0-9]* | '' | ????????????*) ;;
  *)
    case "$NODE_OPTIONS" in
      *max-old-space-size*) ;;
      *) export NODE_OPTIONS="$NODE_OPTIONS --max-old-space-size=$((limit / 1048576 * 6 / 10))" ;;
    esac
    ;;
esac
child=
stopping=
failed=
told=
read -r own </proc/$$/comm
# A process that was only just forked still runs this script, whose trap takes a signal and forgets it.
end_child() {
  while read -r name <"/proc/$child/comm" && [ "$name" = "$own" ]; do sleep 0.01; done 2>/dev/null
  kill -TERM "$child" 2>/dev/null
}
trap 'stopping=1; told=$child; end_child' TERM INT
trap 'kill -USR1 "$child" 2>/dev/null' USR1
trap 'kill -HUP "$child" 2>/dev/null' HUP
while [ -z "$stopping" ]; do
  realpod "$@" &
  child=$!
  # A signal that came before this line went to the child before.
  [ -z "$stopping" ] || [ "$told" = "$child" ] || end_child
  while :; do
    wait "$child"
    status=$?
    # wait also returns for a signal; then the child still runs.
    kill -0 "$child" 2>/dev/null || break
  done
  if [ -n "$stopping" ] || [ "$status" = 2 ]; then exit "$status"; fi
  now=$(date +%s)
  seconds=0
  # Each start costs CPU that nginx may need: only the first failure of a minute is followed by one at once.
  if [ -n "$failed" ] && [ $((now - failed)) -lt 60 ]; then seconds=${REALPOD_RESTART_SECONDS:-5}; fi
  failed=$now
  echo "realpod: ended with status $status, starting again in $seconds s" >&2
  [ "$seconds" != 0 ] || continue
  sleep "$seconds" &
  child=$!
  [ -z "$stopping" ] || [ "$told" = "$child" ] || end_child
  wait "$child"
done
