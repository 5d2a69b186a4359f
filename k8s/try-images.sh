#!/bin/sh
# Runs both images as Docker would: versions, help, inject, the demo, the health check. try-images.sh HELPER SIDECAR
set -eu
for image in "$1" "$2"; do
  run() { docker run --rm --read-only --tmpfs /tmp "$@"; }
  run --entrypoint realpod "$image" --version
  printf 'kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: nginx}]}\n' |
    run -i --entrypoint realpod "$image" inject | grep -q 'name: realpod'
  run --entrypoint realpod "$image" demo --once --speed 10 > /dev/null
done
name=realpod-health-$$
trap 'docker rm -f "$name" > /dev/null 2>&1 || true' EXIT
docker run -d --name "$name" --env HOST_IP=127.0.0.1 --env REALPOD_LISTEN=:9898 --tmpfs /var/log/nginx:mode=1777 "$2" > /dev/null
for _ in $(seq 50); do
  docker exec "$name" node /app/health.mjs 9798 && exit 0
  sleep 0.2
done
docker logs "$name"
exit 1
