#!/usr/bin/env bash
# Makes the virtual environment in which mmsskd runs: tools/setup_env.sh [VENV] [ops], default .venv. Runs through at once when
# the environment is already there and the requirements have not changed. Classification and face recognition need no compiler.
# With `ops` mmcv gets its compiled ops, which detection needs. That takes 10 to 20 minutes on 2 cores, once for each torch
# and mmcv version: the wheel is kept in ${XDG_CACHE_HOME:-~/.cache}/mmsskd/wheels. MMCV_WHEEL=FILE takes a wheel of yours.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
want_ops=${2:-}
cache="${XDG_CACHE_HOME:-$HOME/.cache}/mmsskd"
mmcv=$(sed -n 's/^onedl-mmcv==//p' requirements/mminstall.txt)
torch=$(sed -n 's/^torch==//p' requirements/torch.txt)
stamp="$venv/.mmsskd-requirements"
key=$(cat requirements/*.txt setup.py tools/setup_env.sh | sha256sum | cut -c1-16)

say() { printf '\033[1m[setup %s]\033[0m %s\n' "$(date +%H:%M:%S)" "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

find_python() {
  local candidate
  for candidate in ${MMSSKD_PYTHON:-python3.12 python3.11 python3.10 python3}; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  die "needs Python 3.10, 3.11 or 3.12 (name one with MMSSKD_PYTHON=/path/to/python)"
}

# watch PID LABEL FOLDER: a line every 20 seconds while PID runs, with the number of object files compiled so far and in all
watch() {
  local start=$SECONDS plan total
  while kill -0 "$1" 2>/dev/null; do
    sleep 20 &
    wait -n $! "$1" 2>/dev/null || true
    kill -0 "$1" 2>/dev/null || break
    plan=$(find "$3" -name build.ninja 2>/dev/null | head -n 1)
    total=$([ -n "$plan" ] && grep -c '^build .*\.o:' "$plan" || echo '?')
    say "$2: $(find "$3" -name '*.o' 2>/dev/null | wc -l) of $total files, $(((SECONDS - start) / 60)) min $(((SECONDS - start) % 60)) s"
  done
  wait "$1"
}

build_mmcv() {  # prints nothing; leaves the wheel in $wheels
  local build="$cache/build.$$" log="$cache/mmcv-build.log" pid
  mkdir -p "$build" "$wheels"
  say "compiling mmcv $mmcv for torch $torch, once (log: $log)"
  TMPDIR="$build" MAX_JOBS=${MAX_JOBS:-$(nproc)} "$pip" wheel -v --no-deps --no-build-isolation --no-cache-dir \
    --wheel-dir "$build/out" "onedl-mmcv==$mmcv" >"$log" 2>&1 &
  pid=$!
  if ! watch $pid 'compiling mmcv' "$build"; then
    tail -n 30 "$log" >&2
    rm -rf "$build"
    die "mmcv did not build; the whole log is $log"
  fi
  mv "$build"/out/*.whl "$wheels/"
  rm -rf "$build"
}

# an environment outside the checkout may have served another checkout before
install_checkout() {
  "$venv/bin/pip" install --quiet --no-deps --no-build-isolation -e .
  "$venv/bin/python" -c 'import mmsskd' || die "mmsskd does not import in $venv"
  pwd >"$venv/.mmsskd-checkout"
}

make_environment() {
  local python opencv
  python=$(find_python)
  say "environment $venv with $("$python" --version)"
  if [ ! -x "$venv/bin/python" ]; then
    "$python" -m venv "$venv" || { rm -rf "$venv"; die "python3-venv is missing: apt install python3-venv"; }
  fi
  say "torch $torch (5 GB with its CUDA libraries, 1 to 3 minutes)"
  "$venv/bin/python" -m pip install --quiet --upgrade pip
  "$pip" install -r requirements/torch.txt
  say 'build tools'
  "$pip" install --quiet -r requirements/build.txt
  if [ ! -e "$ops_stamp" ]; then
    say 'mmcv without its ops'
    # an isolated build has no torch, and without torch mmcv's set-up leaves the ops out
    "$pip" install --quiet --no-deps --no-cache-dir "onedl-mmcv==$mmcv"
  fi
  say 'the OpenMMLab packages and the rest'
  "$pip" install --quiet -r requirements.txt -c requirements/torch.txt -c requirements/build.txt
  if ! "$venv/bin/python" -c 'import cv2' 2>/dev/null; then
    say 'opencv needs display libraries that this machine lacks: taking its headless build'
    opencv=$("$pip" list --format=freeze | sed -n 's/^opencv-python==//p')
    "$pip" uninstall --quiet --yes opencv-python opencv-python-headless
    "$pip" install --quiet "opencv-python-headless==$opencv"
  fi
  install_checkout
  printf %s "$key" >"$stamp"
}

add_ops() {
  local tag wheels wheel=${MMCV_WHEEL:-}
  tag=$("$venv/bin/python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
  wheels="$cache/wheels/torch$torch-mmcv$mmcv-$tag"
  if [ -z "$wheel" ] && ! ls "$wheels"/*.whl >/dev/null 2>&1; then
    if ! command -v "${CXX:-c++}" >/dev/null; then
      say 'no C++ compiler: mmcv stays without its ops, so detection will not run (apt install g++, or MMCV_WHEEL=FILE)'
      return
    fi
    build_mmcv
  fi
  [ -n "$wheel" ] || wheel=$(ls "$wheels"/*.whl)
  "$pip" install --quiet --force-reinstall --no-deps "$wheel" || die "cannot install the mmcv wheel $wheel"
  "$venv/bin/python" -c 'import mmcv.ops' || die "the ops of $wheel do not load with torch $torch"
  printf %s "$ops" >"$ops_stamp"
}

pip="$venv/bin/pip"
ops="torch$torch-mmcv$mmcv" ops_stamp="$venv/.mmsskd-ops"
[ "$(cat "$ops_stamp" 2>/dev/null)" = "$ops" ] || rm -f "$ops_stamp"  # made for another torch or mmcv
if [ "$(cat "$stamp" 2>/dev/null)" != "$key" ]; then
  make_environment
  say 'done'
elif [ "$(cat "$venv/.mmsskd-checkout" 2>/dev/null)" != "$PWD" ] || [ ! -e mmsskd/.mim/configs ]; then
  install_checkout
fi
if [ "$want_ops" = ops ] && { [ ! -e "$ops_stamp" ] || [ -n "${MMCV_WHEEL:-}" ]; }; then
  add_ops
fi
