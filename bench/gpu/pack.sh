#!/usr/bin/env bash
# Packs everything that a GPU machine without Node and network needs into one folder that travels with the working tree;
# session.sh unpacks it there. To be run on a machine with Node, after `npm ci`, with nvcc, CMake and Python 3:
#
#   bench/gpu/pack.sh --liger ../Liger-Kernel --fast-llm ../Fast-LLM
#
#   --architectures LIST   of CMAKE_CUDA_ARCHITECTURES (default 90-real: compute capability 9.0 alone)
#   --addon FILE           use this groupgrad.node instead of building one; libgroupgrad.so is next to it
#   --liger FOLDER         checkouts of other implementations to measure; their sources stay outside of this repository
#   --fast-llm FOLDER
#   --quack FOLDER
#   --no-node              the GPU machine has Node 20 or later
#   --out FOLDER           default: build/gpu-pack
#
# The addon runs with glibc and libstdc++ at least as new as here. Packing takes about four minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
source bench/gpu/steps.sh
architectures=90-real addon='' out=build/gpu-pack node=yes peers=()

stop() {
  echo "pack.sh: $*" >&2
  exit 2
}
# A package in a checkout, and the commit of the checkout.
peer() {
  local folder
  folder=$(package_folder "$2" "$3") || stop "$1: no such checkout"
  peers+=("$2" "$folder/$2" "$(git -C "$folder" describe --always --dirty 2>/dev/null || echo unknown)")
}
while (($#)); do
  case $1 in
    --help | -h) sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' bench/gpu/pack.sh && exit ;;
    --no-node) node='' ;;
    --architectures | --addon | --liger | --fast-llm | --quack | --out)
      (($# > 1)) || stop "$1: expected a value"
      case $1 in
        --architectures) architectures=$2 ;;
        --addon) addon=$(realpath -e "$2") ;;
        --liger) peer "$1" liger_kernel "$2" ;;
        --fast-llm) peer "$1" fast_llm "$2" ;;
        --quack) peer "$1" quack "$2" ;;
        --out) out=$2 ;;
      esac
      shift
      ;;
    *) stop "$1: expected --architectures, --addon, --liger, --fast-llm, --quack, --no-node, --out or --help" ;;
  esac
  shift
done
[[ -d node_modules/tsx ]] || stop 'node_modules/tsx is missing: run npm ci'
mkdir -p "$out"

if [[ -z $addon ]]; then
  {
    cmake -S . -B build/gpu-addon -DGROUPGRAD_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES="$architectures" &&
      cmake --build build/gpu-addon -j "$(nproc)"
  } >"$out/addon.log" 2>&1 || { tail -40 "$out/addon.log" && exit 1; }
  addon=$PWD/build/gpu-addon/groupgrad.node
fi
cp "$addon" "$out/groupgrad.node"
cp "$(dirname "$addon")/libgroupgrad.so" "$out/libgroupgrad.so"
# Not into dist/, which may be in use.
rm -rf "$out/dist"
node_modules/.bin/tsc -p tsconfig.build.json --outDir "$out/dist"
git describe --always --dirty >"$out/commit" 2>/dev/null || echo unknown >"$out/commit"

python3 - "$out" "$(node -p process.execPath)" "$node" ${peers[@]+"${peers[@]}"} <<'PY'
import io, lzma, os, shutil, subprocess, sys, tarfile, tempfile
from pathlib import Path

out, node, with_node, *peers = sys.argv[1:]
out = Path(out)

def pack(name, add, preset=6):
    with tarfile.open(out / f"{name}.tar.xz", "w:xz", preset=preset) as tar:
        add(tar)

def modules(tar):
    # The imports of the tests. esbuild's program is in the package of its platform.
    root = Path("node_modules")
    platforms = sorted((root / "@esbuild").iterdir())
    for folder in (root / "tsx", root / "esbuild/lib", root / "esbuild/package.json", *platforms,
                   root / "fast-check", root / "pure-rand"):
        tar.add(folder, folder.relative_to(root))

def sources(tar):
    for name, folder, commit in zip(peers[0::3], peers[1::3], peers[2::3]):
        tar.add(folder, name, filter=lambda f: f if f.isdir() or f.name.endswith(".py") else None)
        text = commit.encode()
        entry = tarfile.TarInfo(f"{name}/COMMIT")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))

pack("modules", modules, preset=2)
pack("dist", lambda tar: tar.add(out / "dist", "dist"))
shutil.rmtree(out / "dist")
pack("peers", sources)
(out / "node.xz").unlink(missing_ok=True)
if with_node:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "node"
        shutil.copyfile(node, program)
        if shutil.which("strip"):
            subprocess.run(["strip", program], check=True)
        with open(program, "rb") as source, lzma.open(out / "node.xz", "wb", preset=1) as target:
            shutil.copyfileobj(source, target, 1 << 20)
kept = sorted(f for f in out.iterdir() if f.suffix != ".log")
for file in kept:
    print(f"{os.path.getsize(file) / 2**20:6.1f} MiB  {file}")
print(f"{sum(map(os.path.getsize, kept)) / 2**20:6.1f} MiB in all")
PY
