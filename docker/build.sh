#!/usr/bin/env bash
# Builds the image mmsskd:cpu or mmsskd:cuda: docker/build.sh [cpu|cuda] [OPTIONS OF docker build], default cpu.
# TORCH_INDEX=URL takes torch from an index of its builds without CUDA.
set -euo pipefail
cd "$(dirname "$0")/.."
device=${1:-cpu}
case $device in
  cpu | cuda) ;;
  *)
    printf 'usage: docker/build.sh [cpu|cuda] [OPTIONS OF docker build]; found %s\n' "$device" >&2
    exit 1
    ;;
esac
DOCKER_BUILDKIT=1 exec docker build --file docker/Dockerfile --tag "mmsskd:$device" \
  --build-arg "DEVICE=$device" --build-arg "TORCH_INDEX=${TORCH_INDEX:-}" "${@:2}" .
