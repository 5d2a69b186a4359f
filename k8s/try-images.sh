#!/bin/sh
# Runs both images as Docker would: versions, help, inject, the demo, labels, sizes, the health check.
#   try-images.sh HELPER SIDECAR
set -eu
fail() {
  echo "try-images: $*" >&2
  exit 1
}
label() { docker image inspect --format "{{index .Config.Labels \"org.opencontainers.image.$2\"}}" "$1"; }
# A registry holds less: layers travel compressed.
limit() { [ "$(docker image inspect --format '{{.Size}}' "$1")" -le "$2"000000 ] || fail "$1 has more than $2 MB"; }

limit "$1" 200
limit "$2" 170
for image in "$1" "$2"; do
  for name in title description version licenses source revision; do
    [ -n "$(label "$image" $name)" ] || fail "$image has no label $name"
  done
  run() { docker run --rm --read-only --network none --cap-drop ALL --tmpfs /tmp "$@"; }
  run --entrypoint realpod "$image" --version
  run --entrypoint realpod "$image" --help > /dev/null
  printf 'kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: nginx}]}\n' |
    run -i --entrypoint realpod "$image" inject | grep -c '"name":"realpod"' > /dev/null || fail "$image: inject adds no sidecar"
  run --user 65532 --entrypoint realpod "$image" demo --once --speed 10 | grep -c '^realpod .* 10\.244\.' > /dev/null ||
    fail "$image: the demo names no pod"
done

# A port that is not the image's own.
name=realpod-health-$$
trap 'docker rm -f "$name" > /dev/null 2>&1 || true' EXIT
docker run -d --name "$name" --health-interval 1s --env HOST_IP=127.0.0.1 --env REALPOD_LISTEN=:9898 \
  --tmpfs /var/log/nginx:mode=1777 "$2" > /dev/null
for _ in $(seq 50); do
  [ "$(docker inspect --format '{{.State.Health.Status}}' "$name")" != healthy ] || exit 0
  sleep 0.2
done
docker logs "$name" >&2
fail "$2 is not healthy on the port of REALPOD_LISTEN"
