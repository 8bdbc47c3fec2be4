#!/usr/bin/env bash
# Builds the CUDA device, tests it, and measures it and other implementations, on a machine with an NVIDIA GPU, a CUDA compiler
# and a Python with PyTorch:
#
#   bench/gpu/run.sh                     under eight minutes on an H100
#   bench/gpu/run.sh --quick             three sizes
#   bench/gpu/run.sh --full              every combination of sizes; takes an hour
#   bench/gpu/run.sh --out FILE          the results (default: bench/results/gpu-<its name>.json)
#   bench/gpu/run.sh --liger FOLDER      a checkout of Liger-Kernel, if it is not installed
#   bench/gpu/run.sh --fast-llm FOLDER   the same for Fast-LLM
#   bench/gpu/run.sh --quack FOLDER      the same for QuACK
#   bench/gpu/run.sh --addon FILE        use this groupgrad.node instead of building one; libgroupgrad.so is next to it
#   bench/gpu/run.sh --library FILE      use this libgroupgrad.so; without --addon, tests through Node are skipped
#   PYTHON=python3.12 bench/gpu/run.sh   the Python to use
#
# Missing software (Node, npm packages, compute-sanitizer, other implementations) is skipped and listed at the end. The exit status is
# not 0 if a step failed. Every step has its own time limit. Settings of the GPU are read, never
# changed. session.sh does the same in stages, on a machine without Node and without a network.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
here=bench/gpu
build=build/gpu
python=${PYTHON:-python3}
library='' addon='' mode='' out='' peers=''
source "$here/steps.sh"

usage() { sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "$here/run.sh"; }
stop() {
  echo "run.sh: $*" >&2
  exit 2
}
peer() {
  local folder
  folder=$(package_folder "$2" "$3") || stop "$1: no such checkout"
  peers+=${peers:+:}$folder
}

while (($#)); do
  case $1 in
    --quick | --full) mode=$1 ;;
    --help | -h) usage && exit ;;
    --out | --liger | --fast-llm | --quack | --addon | --library)
      (($# > 1)) || stop "$1: expected a path"
      case $1 in
        --out) out=$(realpath -m "$2") ;;
        --liger) peer "$1" liger_kernel "$2" ;;
        --fast-llm) peer "$1" fast_llm "$2" ;;
        --quack) peer "$1" quack "$2" ;;
        --addon) addon=$(realpath -e "$2") || exit ;;
        --library) library=$(realpath -e "$2") || exit ;;
      esac
      shift
      ;;
    *) stop "$1: expected --quick, --full, --out, --liger, --fast-llm, --quack, --addon, --library or --help" ;;
  esac
  shift
done

left_out=() failed=()
step() { printf '\n== %s\n' "$*"; }
leave_out() {
  echo "left out: $*"
  left_out+=("$*")
}
# Runs a command whose output is shown only if it fails.
logged() {
  "${@:2}" >"$1" 2>&1 && return
  local status=$?
  tail -40 "$1"
  return "$status"
}
# Runs a command that must succeed within a time limit, and continues if it does not: must WHAT SECONDS COMMAND...
must() {
  local what=$1 status
  shift
  limited "$@" && return
  status=$?
  [[ $status == 124 || $status == 137 ]] && what+=" (took more than $1 s)"
  failed+=("$what")
  echo "FAILED: $what"
  return 1
}

step requirements
[[ -x /usr/local/cuda/bin/nvcc ]] && PATH=$PATH:/usr/local/cuda/bin
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
  stop "expected a $python with PyTorch that sees a GPU (PYTHON names another)"
capability=$("$python" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())') || exit
"$python" -c 'import torch; print(torch.cuda.get_device_name(), "- PyTorch", torch.__version__)'
if command -v nvcc >/dev/null; then
  nvcc --version | tail -1
elif [[ -z $library && -z $addon ]]; then
  stop 'nvcc was not found: put it on PATH, or give --addon or --library'
fi

step build
mkdir -p "$build"
if [[ -n $addon && -z $library ]]; then
  library=$(realpath -e "$(dirname "$addon")/libgroupgrad.so") || stop "--addon: expected libgroupgrad.so beside it"
fi
# Only for this GPU. If the compiler does not support it yet, the driver compiles the code for compute capability 9.0.
build_all() {
  nvcc --list-gpu-arch | grep -qx "compute_$capability" && kind=real || { capability=90 && kind=virtual; }
  configuration=(-DGROUPGRAD_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES="$capability-$kind")
  export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
  local missing=''
  if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    missing='Node or npm was not found (--addon takes one that was built elsewhere)'
  elif [[ ! -d node_modules ]] && ! logged "$build/npm.log" limited 300 npm ci --ignore-scripts; then
    missing='npm ci did not succeed'
  elif logged "$build/addon.log" must 'configuration of the addon' 120 \
    cmake -S . -B "$build/addon" "${configuration[@]}" &&
    logged "$build/addon.log" must 'build of the addon' 900 cmake --build "$build/addon"; then
    library=$PWD/$build/addon/libgroupgrad.so
    addon=$PWD/$build/addon/groupgrad.node
    logged "$build/dist.log" must 'build of dist/' 120 npm run prepare
  fi
  [[ -n $missing ]] && leave_out "the addon and its tests: $missing"
  [[ -n $library ]] && return
  library=$PWD/$build/c/libgroupgrad.so
  logged "$build/build.log" limited 120 cmake -S . -B "$build/c" "${configuration[@]}" &&
    logged "$build/build.log" limited 900 cmake --build "$build/c" --target groupgrad_c ||
    stop 'libgroupgrad could not be built'
}
if [[ -n $library ]]; then
  echo "not built: $library${addon:+, $addon}"
  [[ -n $addon ]] || leave_out 'the addon and its tests: --library was given without --addon'
else
  build_all
  echo "$library, in $SECONDS s"
fi
export GROUPGRAD_ADDON=$addon

step 'correctness: libgroupgrad against float64'
must 'bench/gpu/check.py' 150 "$python" "$here/check.py" --library "$library"

step 'tests of the addon on the GPU'
if [[ -z $addon ]]; then
  echo 'left out with the addon'
elif ! command -v node >/dev/null || [[ ! -d node_modules/tsx ]]; then
  leave_out 'the tests of the addon: they need Node and node_modules/tsx'
else
  export -f run_gpu_tests
  must 'tests of the addon' 300 bash -c 'run_gpu_tests "$@"' bash "${gpu_tests[@]}"
fi

step 'compute-sanitizer on small requests'
# Reports where a tool found errors, and where it has no verdict.
note() {
  case $2 in
    1) failed+=("compute-sanitizer --tool $1") ;;
    2) leave_out "compute-sanitizer --tool $1: no verdict" ;;
  esac
}
if ! command -v compute-sanitizer >/dev/null; then
  leave_out 'compute-sanitizer was not found'
elif ! command -v nvcc >/dev/null; then
  leave_out 'compute-sanitizer: its program needs nvcc'
else
  export -f build_sanitize
  if must 'build of sanitize.cpp' 60 bash -c 'build_sanitize "$@"' bash "$library" "$build/sanitize" &&
    must 'sanitize, by itself' 60 "$build/sanitize" 60; then
    for tool in memcheck initcheck synccheck; do
      sanitize "$tool" 60 "$build/sanitize" 12 "$build/sanitize-$tool.log" || note "$tool" $?
    done
    race_check 60 "$build/sanitize" 12 "$build/sanitize-racecheck.log" || note racecheck $?
  fi
fi

step benchmark
# The rest of the eight minutes; the cases are in order of importance.
seconds=$((450 - SECONDS))
options=(--library "$library" --seconds "$((seconds > 120 ? seconds : 120))")
[[ -n $mode ]] && options+=("$mode")
[[ -n $out ]] && options+=(--out "$out")
if [[ -n $addon && -f dist/index.js ]] && command -v node >/dev/null; then
  options+=(--addon)
elif [[ -n $addon ]]; then
  leave_out 'the benchmark through the addon: it needs Node and dist/'
fi
export PYTHONPATH=$peers${PYTHONPATH:+${peers:+:}$PYTHONPATH}
# With --full there is no limit except for a hung kernel.
[[ $mode == --full ]] && limit=7200 || limit=$((seconds > 120 ? seconds + 120 : 240))
must benchmark "$limit" "$python" "$here/bench.py" "${options[@]}"

printf '\n%d s in all\n' "$SECONDS"
for what in ${left_out[@]+"${left_out[@]}"}; do echo "left out: $what"; done
for what in ${failed[@]+"${failed[@]}"}; do echo "FAILED: $what"; done
((${#failed[@]} == 0))
