#!/usr/bin/env bash
# tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]
# GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5 for each GPU), PORT and SRUN_ARGS as in mmdet; torchrun starts the ranks.
# GRACE (120) seconds before its time is up Slurm sends SIGTERM: the run saves and ends. The same command, as in a job of
# `sbatch --requeue` that starts again, goes on with --resume where the work dir holds a run.
set -euo pipefail
if [ $# -lt 4 ]; then sed -n '2,5s/^# //p' "$0" >&2; exit 1; fi
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
WORK_DIR=$4
shift 4
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-8}
[ "$GPUS" -lt "$GPUS_PER_NODE" ] && GPUS_PER_NODE=$GPUS
NODES=$(((GPUS + GPUS_PER_NODE - 1) / GPUS_PER_NODE))
# a run that has begun goes on
for CHECKPOINT in "$WORK_DIR"/{epoch,iter,phase}*.pth; do
    if [ -e "$CHECKPOINT" ]; then set -- --resume "$@"; break; fi
done
export PORT=${PORT:-29500} HERE CONFIG WORK_DIR NODES GPUS_PER_NODE
HERE=$(cd "$(dirname "$0")" && pwd)

# one task for each node; the first node of the job is where the ranks meet
# shellcheck disable=SC2016,SC2086
srun -p "$PARTITION" --job-name="$JOB_NAME" --nodes="$NODES" --ntasks="$NODES" --ntasks-per-node=1 \
    --gres="gpu:$GPUS_PER_NODE" --cpus-per-task="$((${CPUS_PER_TASK:-5} * GPUS_PER_NODE))" --kill-on-bad-exit=1 \
    --signal="TERM@${GRACE:-120}" ${SRUN_ARGS:-} \
    bash -c 'PYTHONPATH="$HERE/..:${PYTHONPATH:-}" exec "${PYTHON:-python}" -m torch.distributed.run --nnodes="$NODES" \
        --nproc-per-node="$GPUS_PER_NODE" --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d \
        --rdzv-endpoint="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):$PORT" \
        "$HERE/train.py" "$CONFIG" --work-dir "$WORK_DIR" --launcher pytorch "$@"' slurm_train "$@"
