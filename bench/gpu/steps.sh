# Functions shared by run.sh, session.sh and pack.sh. To be sourced in the root of the repository.
# shellcheck shell=bash disable=SC2034

# Runs a command and ends it, with all processes that it started, after a time limit (status 124): a hanging kernel costs one
# step.
limited() {
  timeout -k 10 "$@"
}

# The folder of a checkout that contains a package: package_folder NAME FOLDER.
package_folder() {
  local folder
  for folder in "$2" "$2/src"; do
    [[ -d $folder/$1 ]] && realpath "$folder" && return
  done
  echo "$2: expected a folder that holds $1 or src/$1" >&2
  return 1
}

# The tests through the addon GROUPGRAD_ADDON, quick ones first. Needs only Node, with tsx and the tests' imports
# in node_modules.
gpu_tests=(
  test/gpu/device-arrays.test.ts
  test/oracle/golden.test.ts
  test/unit/reference-traps.test.ts
  test/oracle/devices-agree.test.ts
  test/gpu/sizes.test.ts
)
# On an emulated device the last two take minutes.
[[ -z ${DRY:-} ]] || gpu_tests=("${gpu_tests[@]:0:3}")
# One file at a time: device-arrays checks how much memory of the GPU is free, which others change.
run_gpu_tests() {
  node --import tsx --test --test-concurrency=1 "$@"
}

# The program of random requests for compute-sanitizer: build_sanitize LIBRARY PROGRAM.
build_sanitize() {
  nvcc -std=c++17 -O1 -Inative/c bench/gpu/sanitize.cpp -o "$2" "$1" -Xlinker -rpath -Xlinker "$(dirname "$1")"
}

# One of compute-sanitizer's tools on that program: sanitize TOOL SECONDS PROGRAM REQUESTS LOG [OPTION...]. It reports what
# it found. Status 1: errors; 2: no verdict.
sanitize() {
  local tool=$1 seconds=$2 program=$3 requests=$4 log=$5
  shift 5
  # Exit status 86: errors were found. Any other except 0: the tool does not work here, because the program itself does.
  limited "$seconds" compute-sanitizer --tool "$tool" --error-exitcode 86 --print-limit 20 "$@" "$program" "$requests" \
    >"$log" 2>&1
  case $? in
    0) echo "$tool: $(tail -1 "$log" | tr -d '=')" ;;
    86)
      tail -40 "$log"
      return 1
      ;;
    124 | 137) echo "$tool: took more than $seconds s" && return 2 ;;
    *) echo "$tool does not work here: $(grep -m1 -iE 'error|not supported|fail' "$log")" && return 2 ;;
  esac
}

# racecheck: race_check SECONDS PROGRAM REQUESTS LOG. It does not follow bulk copies that complete on an mbarrier in a loop
# and reports false hazards: for the kernels that use them (clusterRows) its output is information, not a verdict.
race_check() {
  local status=0
  sanitize racecheck "$1" "$2" "$3" "$4" --kernel-name-exclude kns=clusterRows || status=$?
  echo 'racecheck over bulk copies, for information:'
  sanitize racecheck "$1" "$2" "$3" "$4.bulk" --kernel-name kns=clusterRows
  return "$status"
}
