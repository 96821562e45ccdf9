#!/usr/bin/env bash
# tests/gpu_check.sh [captured] [resume] [benchmark] [recipes] [jobs] [suite]
# What needs a GPU, each part within its time limit; without arguments the first three, in less than half an hour:
#   captured   steps as one CUDA graph, and steps that do not wait, beside steps made one by one; fallbacks; losses that are not
#              finite; the folded teacher
#   resume     resume and export to the bit, with deterministic kernels
#   benchmark  the table of docs/speed.md for five pairs, into the folder OUT (default: gpu_check)
#   recipes    a few iterations of the recipes for large sets, at full image size: time and memory, into OUT
#   jobs       images a second of 1, 2, 4 and 8 runs at once on CIFAR-100 (see configs/_base_/cifar100_arms.py), into OUT
#   suite      all tests, on WORKERS (default: 4)
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
OUT=${OUT:-gpu_check}
PYTHON=${PYTHON:-python3}
[ $# -gt 0 ] || set -- captured resume benchmark
for name; do
    case $name in
        captured | resume | benchmark | recipes | jobs | suite) ;;
        *) echo "there is no part $name; parts: captured, resume, benchmark, recipes, jobs, suite" >&2; exit 2 ;;
    esac
done
if [ -e .gpu/setup.sh ]; then source .gpu/setup.sh; fi # brings what the machine lacks
"$PYTHON" -c 'import torch; assert torch.cuda.is_available(), "no GPU here"; print(torch.cuda.get_device_name())' || exit 1
failed=()
run() { # NAME SECONDS COMMAND...
    local name=$1 limit=$2
    shift 2
    echo "== $name, at most $limit s"
    timeout "$limit" "$@" || failed+=("$name ($?)")
}
benchmark() { # CONFIG ARGUMENTS...
    local config=$1
    shift
    run "benchmark of $config" 220 "$PYTHON" tools/benchmark.py "configs/sskd/$config.py" "$@" --runner --json "$OUT/$config.json"
}
jobs() { # N
    local out=$OUT/jobs_$1 plan=configs/experiments/compare/jobs_$1.py
    printf '_base_ = "./cifar100_jobs.py"\nseeds = list(range(%s))\n' "$1" >"$plan"
    run "$1 runs at once" 200 "$PYTHON" tools/compare.py "$plan" --jobs "$1" --work-dir "$out"
    rm "$plan"
    "$PYTHON" - "$out" "$1" <<'END'
import json, pathlib, statistics, sys
folder, jobs = pathlib.Path(sys.argv[1]), int(sys.argv[2])
for arm in sorted((folder / 'equal_epochs').iterdir()):
    runs = [json.loads(file.read_text()) for file in arm.glob('seed_*/result.json')]
    seconds = [statistics.mean(run['seconds_per_epoch']) for run in runs]
    print(f'{arm.name}, {jobs} at once: {jobs * 50000 / statistics.mean(seconds):.0f} images/s of training in all')
END
}
for name; do
    case $name in
        captured)
            run captured 400 "$PYTHON" -m pytest -n 0 -q -rs tests/test_distill/test_schedule/test_captured_step.py \
                tests/test_distill/test_schedule/test_captured_run.py tests/test_distill/test_schedule/test_unwaited_step.py \
                tests/test_distill/test_network/test_folded.py
            ;;
        resume)
            run resume 400 "$PYTHON" -m pytest -n 0 -q -rs tests/test_distill/test_schedule/test_resume.py \
                tests/test_distill/test_export.py
            ;;
        benchmark)
            mkdir -p "$OUT"
            benchmark cifar100_r56_r20 --batch-size 64 --profile
            benchmark cifar100_r32x4_r8x4 --batch-size 64 --profile
            benchmark imagenet_r50_r18 --batch-size 64 --profile
            benchmark faster_rcnn_r101_r50 --batch-size 2 --shape 800 1344 --head --profile
            benchmark face_r50_r18_ms1mv3 --batch-size 64 --profile
            ;;
        recipes)
            mkdir -p "$OUT"
            benchmark imagenet_r34_r18 --batch-size 64 --rounds 5
            benchmark imagenet_r50_mobilenetv1 --batch-size 64 --rounds 5
            benchmark faster_rcnn_r101_r50 --batch-size 2 --shape 800 1344 --rounds 5
            benchmark face_r50_mobilefacenet_ms1mv2 --batch-size 128 --rounds 5
            ;;
        jobs)
            mkdir -p "$OUT"
            for n in 1 2 4 8; do jobs "$n"; done
            ;;
        suite) run suite 3000 "$PYTHON" -m pytest -n "${WORKERS:-4}" --dist loadgroup -q -rs tests ;;
    esac
done
echo "failed or out of time: ${failed[*]:-nothing}"
[ ${#failed[@]} -eq 0 ]
