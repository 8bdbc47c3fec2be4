// Compiles the CUDA device for every architecture of CMakeLists.txt, with warnings as errors, and fails if a kernel over logits
// (native/cuda/rows.cu) spills registers or has an array in local memory: either would access memory for every logit.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const folder = mkdtempSync(join(tmpdir(), 'groupgrad-ptxas-'));
try {
  const ninja = spawnSync('ninja', ['--version']).status === 0 ? ['-G', 'Ninja'] : [];
  run('cmake', [
    ...ninja,
    '-S',
    '.',
    '-B',
    folder,
    '-DGROUPGRAD_CUDA=ON',
    '-DGROUPGRAD_WERROR=ON',
    '-DGROUPGRAD_NATIVE_TESTS=ON',
    '-DCMAKE_CUDA_FLAGS=-Xptxas=-v',
  ]);
  const report = run('cmake', ['--build', folder, '--target', 'groupgrad_cuda']);
  const kernels = parse(report);
  const architectures = new Set(kernels.map(({ architecture }) => architecture));
  const overLogits = kernels.filter(({ name }) => /clusterRows|streamRows/.test(name));
  const bad = overLogits.filter(({ stack, spills }) => stack > 0 || spills > 0);
  for (const { name, architecture, stack, spills } of bad) {
    console.error(`${architecture} ${name}: ${stack} bytes of stack frame, ${spills} bytes of spills`);
  }
  if (overLogits.length === 0 || bad.length > 0) process.exit(1);
  const registers = Math.max(...overLogits.map(({ registers }) => registers));
  console.log(
    `${kernels.length} kernels for ${[...architectures].sort().join(', ')}; the ${overLogits.length} over logits: no spills, no local arrays, at most ${registers} registers`,
  );
} finally {
  rmSync(folder, { recursive: true, force: true });
}

function run(command, args) {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (status === 0) return stdout + stderr;
  console.error(`${command} ${args.join(' ')} failed:\n${stdout}${stderr}`);
  process.exit(1);
}

/** ptxas prints a kernel and its architecture, then its stack frame and spills, then its registers. */
function parse(report) {
  const kernels = [];
  for (const line of report.split('\n')) {
    const entry = /Compiling entry function '(\w+)' for '(\w+)'/.exec(line);
    if (entry) kernels.push({ name: entry[1], architecture: entry[2], stack: NaN, spills: NaN, registers: NaN });
    const memory = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    if (memory && kernels.length) {
      kernels.at(-1).stack = Number(memory[1]);
      kernels.at(-1).spills = Number(memory[2]) + Number(memory[3]);
    }
    const used = /Used (\d+) registers/.exec(line);
    if (used && kernels.length) kernels.at(-1).registers = Number(used[1]);
  }
  const isComplete = ({ stack, spills, registers }) => [stack, spills, registers].every(Number.isFinite);
  if (!kernels.every(isComplete)) throw new Error('the report of ptxas does not have the expected form');
  return kernels;
}
