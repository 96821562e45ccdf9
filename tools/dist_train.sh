#!/usr/bin/env bash
# tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
# Without a GPU the processes run on the CPU (gloo). NNODES, NODE_RANK, PORT and MASTER_ADDR as in mmdet.
set -euo pipefail
if [ $# -lt 2 ]; then sed -n '2,3s/^# //p' "$0" >&2; exit 1; fi
CONFIG=$1
GPUS=$2
shift 2
HERE=$(dirname "$0")

PYTHONPATH="$HERE/..:${PYTHONPATH:-}" exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" --nproc-per-node="$GPUS" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}" \
    "$HERE/train.py" "$CONFIG" --launcher pytorch "$@"
