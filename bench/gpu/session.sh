#!/usr/bin/env bash
# Tests and measures the contents of pack.sh's folder, on a machine with an NVIDIA GPU and a Python with PyTorch, but without Node and
# network. It works in stages, each with a time limit, so that a hanging kernel costs only one stage:
#
#   bench/gpu/session.sh STAGE...
#
#   setup     unpack Node, the tests' imports, dist/ and the other implementations' sources; describe the machine   (always first)
#   check     libgroupgrad compared with float64 (check.py)
#   memcheck  compute-sanitizer's memcheck with random requests; needs nvcc
#   tests     golden vectors, and the tests of test/gpu through the addon
#   quick     the benchmark's quick cases, without torch.compile
#   build     builds libgroupgrad again, for variants; later stages use that one; needs nvcc and CMake
#   races     compute-sanitizer's other tools; after memcheck
#   full      the benchmark's default cases: its JSON is the one to commit
#   ncu       Nsight Compute on the kernels that launches.py starts
#
#   PACK=FOLDER    the folder that pack.sh filled (default: build/gpu-pack)
#   OUT=FOLDER     for results and logs (default: build/gpu-session)
#   PYTHON=FILE    the Python to use (default: python3)
#   LIMIT=SECONDS  of the stages quick and full (200, 570); SECONDS_FULL=SECONDS after which full starts no more cases (400)
#   DRY=1          with an emulated addon (GROUPGRAD_CUDA=EMULATED), if there is no GPU: small sizes, and a message where a
#                  stage needs a GPU
#
# The exit status is not 0 if a stage failed. Settings of the GPU are read, never changed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
source bench/gpu/steps.sh
pack=$(realpath "${PACK:-build/gpu-pack}")
out=$(realpath -m "${OUT:-build/gpu-session}")
work=${TMPDIR:-/tmp}/groupgrad-session
python=${PYTHON:-python3}
dry=${DRY:-}
emulated=${dry:+--emulated}
library=$pack/libgroupgrad.so
stages=(setup check memcheck tests quick build races full ncu)
if (($# == 0)) || [[ $1 == --help || $1 == -h ]]; then
  sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' bench/gpu/session.sh
  exit $(($# == 0 ? 2 : 0))
fi
for stage in "$@"; do
  [[ " ${stages[*]} " == *" $stage "* ]] || { echo "session.sh: $stage: expected one of ${stages[*]}" >&2 && exit 2; }
done
[[ -f $pack/groupgrad.node ]] || { echo "session.sh: $pack: expected what pack.sh packs (PACK names it)" >&2 && exit 2; }
mkdir -p "$out" "$work/bin"
exec > >(tee -a "$out/session.log") 2>&1
export PATH=$work/bin:$PATH:/usr/local/cuda/bin PYTHONUNBUFFERED=1 PYTHONPATH=$work/peers
export GROUPGRAD_ADDON=$pack/groupgrad.node GROUPGRAD_COMMIT
GROUPGRAD_COMMIT=$(cat "$pack/commit")

summary=() failed=0
# stage NAME SECONDS LINES COMMAND...: runs within a limit, logs, prints the last lines of the log, and continues.
stage() {
  local name=$1 seconds=$2 lines=$3 begin=$SECONDS status
  shift 3
  printf '\n== %s\n' "$name"
  limited "$seconds" "$@" >"$out/$name.log" 2>&1
  status=$?
  tail -n "$lines" "$out/$name.log"
  ended "$name" "$status" "$begin"
}
ended() {
  local what="status $2"
  [[ $2 == 124 || $2 == 137 ]] && what='took too long'
  [[ $2 == 0 ]] || failed=1
  summary+=("$1: $what, $((SECONDS - $3)) s")
  echo "-- ${summary[-1]}"
  # After a fault or a hang, the results of later stages may have nothing to do with the code.
  [[ $2 == 0 || -n $dry ]] || timeout 30 "$python" -c 'import torch; torch.ones(1, device="cuda").sum().item()' \
    >/dev/null 2>&1 || echo '!! the GPU does not answer'
  return "$2"
}
skipped() {
  printf '\n== %s\n' "$1"
  summary+=("$1: left out, $2")
  echo "-- ${summary[-1]}"
}
needs_gpu() {
  if [[ -n $dry ]]; then
    skipped "$1" 'it needs a GPU'
    return 1
  fi
}

setup() {
  "$python" - "$pack" "$work" <<'PY'
import lzma, os, shutil, sys, tarfile
pack, work = sys.argv[1:]
node = f"{work}/bin/node"
if os.path.exists(f"{pack}/node.xz"):
    with lzma.open(f"{pack}/node.xz") as source, open(node, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    os.chmod(node, 0o755)
for name, folder in (("modules", "node_modules"), ("dist", "."), ("peers", f"{work}/peers")):
    with tarfile.open(f"{pack}/{name}.tar.xz") as tar:
        tar.extractall(folder, filter="tar") if hasattr(tarfile, "tar_filter") else tar.extractall(folder)
PY
  echo "groupgrad $(cat "$pack/commit")"
  for peer in "$work"/peers/*/COMMIT; do [[ -f $peer ]] && echo "$(basename "$(dirname "$peer")") $(cat "$peer")"; done
  echo "node $(node --version), $(ldd --version | head -1)"
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem,power.limit --format=csv,noheader
  "$python" - <<'PY'
import importlib
for name in ("torch", "triton", "transformers"):
    try:
        print(name, importlib.import_module(name).__version__)
    except ImportError as error:
        print(f"{name}: {error}")
PY
  nvcc --version | tail -1
  command -v g++ cmake ninja compute-sanitizer ncu
  node --input-type=module -e 'import { devices } from "./dist/index.js"; const cuda = devices().find((d) => d.name === "cuda");
    console.log(cuda.detail); process.exit(cuda.available ? 0 : 1);'
}
export -f setup run_gpu_tests build_sanitize
export pack work python

build_program() {
  [[ -x $work/sanitize ]] || stage sanitize-build 60 20 bash -c 'build_sanitize "$@"' bash "$library" "$work/sanitize" &&
    stage sanitize 60 5 "$work/sanitize" 60
}
# A tool with random requests: no verdict is not a failure.
tool() {
  local name=$1 begin=$SECONDS status=0
  printf '\n== %s\n' "$name"
  shift
  "$@" || status=$?
  [[ $status == 2 ]] && status=0
  ended "$name" "$status" "$begin"
}

for stage in "$@"; do
  case $stage in
    setup) stage setup 120 20 bash -c setup ;;
    check) stage check 150 20 "$python" bench/gpu/check.py $emulated --library "$library" ;;
    memcheck)
      needs_gpu memcheck && build_program &&
        tool memcheck sanitize memcheck 90 "$work/sanitize" 8 "$out/memcheck.log"
      ;;
    races)
      needs_gpu races && build_program && {
        for name in synccheck initcheck; do tool "$name" sanitize "$name" 60 "$work/sanitize" 4 "$out/$name.log"; done
        tool racecheck race_check 60 "$work/sanitize" 4 "$out/racecheck.log"
      }
      ;;
    tests)
      stage tests 240 12 bash -c 'run_gpu_tests "$@"' bash "${gpu_tests[@]}"
      grep -E '^\s*not ok|^\s*# SKIP' "$out/tests.log" | head -20
      ;;
    build)
      cuda=ON && [[ -n $dry ]] && cuda=EMULATED
      stage build 300 20 bash -c 'cmake -S . -B "$1" -DGROUPGRAD_CUDA="$2" -DCMAKE_CUDA_ARCHITECTURES=native &&
        cmake --build "$1" --target groupgrad_c -j "$(nproc)"' bash "$work/build" "$cuda" &&
        library=$work/build/libgroupgrad.so && rm -f "$work/sanitize"
      ;;
    quick)
      stage quick "${LIMIT:-200}" 60 "$python" bench/gpu/bench.py "${emulated:---quick}" --no-compile --addon \
        --library "$library" --out "$out/quick.json"
      ;;
    full)
      stage full "${LIMIT:-570}" 150 "$python" bench/gpu/bench.py $emulated ${dry:+--no-compile} --addon \
        --seconds "${SECONDS_FULL:-400}" --library "$library" --out "$out/full.json"
      ;;
    ncu)
      needs_gpu ncu &&
        stage ncu 200 140 ncu --clock-control none --set full --import-source no -k 'regex:clusterRows|policyKernel|tokenLocal' \
          "$python" bench/gpu/launches.py --library "$library"
      ;;
  esac
done
printf '\n'
printf '%s\n' "${summary[@]}"
echo "$SECONDS s in all; results and logs are in $out"
exit "$failed"
