#!/usr/bin/env bash
# Builds the CUDA device, tests it, and measures it against its peers, on a machine with an NVIDIA GPU, a CUDA compiler
# and a Python that has PyTorch:
#
#   bench/gpu/run.sh                     under eight minutes on an H100
#   bench/gpu/run.sh --quick             three sizes
#   bench/gpu/run.sh --full              every combination of sizes; takes an hour
#   bench/gpu/run.sh --out FILE          the results (default: bench/results/gpu-<its name>.json)
#   bench/gpu/run.sh --liger FOLDER      a checkout of Liger-Kernel, where it is not installed
#   bench/gpu/run.sh --quack FOLDER      a checkout of QuACK, likewise
#   bench/gpu/run.sh --library FILE      this libgroupgrad.so instead of building one; no test through Node then
#   PYTHON=python3.12 bench/gpu/run.sh   which Python
#
# What is missing (Node, npm packages, compute-sanitizer, a peer) is left out and named at the end. The exit status is
# not 0 where something that ran went wrong. Settings of the GPU are read, never changed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
here=bench/gpu
build=build/gpu
python=${PYTHON:-python3}
library='' mode='' out='' peers=''

usage() { sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "$here/run.sh"; }
stop() {
  echo "run.sh: $*" >&2
  exit 2
}
# The folder of a checkout that holds a package.
sources() {
  local folder
  for folder in "$2" "$2/src"; do
    [[ -d $folder/$1 ]] && realpath "$folder" && return
  done
  stop "$3 $2: expected a folder that holds $1 or src/$1"
}

while (($#)); do
  case $1 in
    --quick | --full) mode=$1 ;;
    --help | -h) usage && exit ;;
    --out | --liger | --quack | --library)
      (($# > 1)) || stop "$1: expected a path"
      case $1 in
        --out) out=$(realpath -m "$2") ;;
        --liger) folder=$(sources liger_kernel "$2" --liger) || exit && peers+=${peers:+:}$folder ;;
        --quack) folder=$(sources quack "$2" --quack) || exit && peers+=${peers:+:}$folder ;;
        --library) library=$(realpath -e "$2") || exit ;;
      esac
      shift
      ;;
    *) stop "$1: expected --quick, --full, --out, --liger, --quack, --library or --help" ;;
  esac
  shift
done

left_out=() failed=()
step() { printf '\n== %s\n' "$*"; }
leave_out() {
  echo "left out: $*"
  left_out+=("$*")
}
# Runs a command whose output matters where it fails.
logged() {
  "${@:2}" >"$1" 2>&1 && return
  tail -40 "$1"
  return 1
}
# Runs a command that must succeed, and goes on where it does not.
must() {
  local what=$1
  shift
  "$@" && return
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
elif [[ -z $library ]]; then
  stop 'nvcc was not found: put it on PATH, or give --library'
fi

build_addon() {
  cmake -S . -B "$build/addon" "${configuration[@]/#/-D}" && cmake --build "$build/addon"
}

step build
mkdir -p "$build"
addon=''
if [[ -n $library ]]; then
  echo "not built: $library"
  leave_out 'the addon and its tests: --library was given'
else
  # For this GPU alone. Where the compiler does not know it yet, the driver compiles what was made for the 90.
  nvcc --list-gpu-arch | grep -qx "compute_$capability" && kind=real || { capability=90 && kind=virtual; }
  configuration=(GROUPGRAD_CUDA=ON CMAKE_CUDA_ARCHITECTURES="$capability-$kind")
  export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
  missing=''
  if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    missing='Node or npm was not found'
  elif [[ ! -d node_modules ]] && ! logged "$build/npm.log" npm ci --ignore-scripts; then
    missing='npm ci did not succeed'
  elif must 'build of the addon' logged "$build/addon.log" \
    build_addon; then
    library=$PWD/$build/addon/libgroupgrad.so
    must 'build of dist/' logged "$build/dist.log" npm run prepare && addon=$PWD/$build/addon/groupgrad.node
  fi
  [[ -n $missing ]] && leave_out "the addon and its tests: $missing"
  if [[ -z $library ]]; then
    library=$PWD/$build/c/libgroupgrad.so
    logged "$build/build.log" cmake -S . -B "$build/c" "${configuration[@]/#/-D}" &&
      logged "$build/build.log" cmake --build "$build/c" --target groupgrad_c || stop 'libgroupgrad could not be built'
  fi
  echo "$library, in $SECONDS s"
fi

step 'correctness: libgroupgrad against float64'
must 'bench/gpu/check.py' "$python" "$here/check.py" --library "$library"

step 'tests of the addon on the GPU'
if [[ -n $addon ]]; then
  must 'tests of the addon' env GROUPGRAD_ADDON="$addon" npm test -- gpu golden traps
else
  echo 'left out with the addon'
fi

step 'compute-sanitizer on small requests'
# Exit status 86: errors were found. Any other but 0: the tool does not work here, because the program itself does.
sanitize() {
  local log=$build/sanitize-$1.log
  timeout 60 compute-sanitizer --tool "$1" --error-exitcode 86 "$build/sanitize" 12 >"$log" 2>&1
  case $? in
    0) echo "$1: $(tail -1 "$log" | tr -d '=')" ;;
    86)
      tail -40 "$log"
      failed+=("compute-sanitizer --tool $1")
      ;;
    124) leave_out "compute-sanitizer --tool $1: takes more than a minute here" ;;
    *) leave_out "compute-sanitizer --tool $1 does not work here: $(grep -m1 -iE 'error|not supported|fail' "$log")" ;;
  esac
}
if ! command -v compute-sanitizer >/dev/null; then
  leave_out 'compute-sanitizer was not found'
elif ! command -v nvcc >/dev/null; then
  leave_out 'compute-sanitizer: its program needs nvcc'
else
  must 'build of sanitize.cpp' nvcc -std=c++17 -O1 -Inative/c "$here/sanitize.cpp" -o "$build/sanitize" \
    "$library" -Xlinker -rpath -Xlinker "$(dirname "$library")" &&
    must 'sanitize, by itself' "$build/sanitize" 60 &&
    for tool in memcheck racecheck initcheck synccheck; do sanitize "$tool"; done
fi

step benchmark
# What is left of the eight minutes; the cases are in the order of their weight.
seconds=$((450 - SECONDS))
options=(--library "$library" --seconds "$((seconds > 120 ? seconds : 120))")
[[ -n $mode ]] && options+=("$mode")
[[ -n $out ]] && options+=(--out "$out")
[[ -n $addon ]] && options+=(--addon)
export GROUPGRAD_ADDON=$addon PYTHONPATH=$peers${PYTHONPATH:+${peers:+:}$PYTHONPATH}
must benchmark "$python" "$here/bench.py" "${options[@]}"

printf '\n%d s in all\n' "$SECONDS"
for what in ${left_out[@]+"${left_out[@]}"}; do echo "left out: $what"; done
for what in ${failed[@]+"${failed[@]}"}; do echo "FAILED: $what"; done
((${#failed[@]} == 0))
