#!/usr/bin/env bash
# tests/gpu_check.sh [arguments of pytest]
# On a machine with a GPU: resume and export to the bit, with deterministic kernels, then the whole suite. WORKERS: 4.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
if [ -e .gpu/setup.sh ]; then source .gpu/setup.sh; fi # brings what the machine lacks
PYTHON=${PYTHON:-python3}
"$PYTHON" -c 'import torch; assert torch.cuda.is_available(), "no GPU here"; print(torch.cuda.get_device_name())' || exit 1
"$PYTHON" -m pytest -n 0 -q -rs tests/test_distill/test_schedule/test_resume.py tests/test_distill/test_export.py || exit 1
exec "$PYTHON" -m pytest -n "${WORKERS:-4}" --dist loadgroup -q -rs "$@" tests
