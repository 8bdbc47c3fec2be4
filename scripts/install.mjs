// Builds the native addon: with cmake-js where CMake is found (the CUDA device too where nvcc is), else with node-gyp. Runs on `npm install` of the package and in
// a checkout (`npm ci`, `npm run build:native`). A machine without a compiler keeps the slow reference device: that is no
// failure of the installation, unless --required says so.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const required = process.argv.includes('--required') || process.env.GROUPGRAD_CUDA === 'ON';

function run(command, args) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  const output = `${stdout ?? ''}${stderr ?? ''}${error ? `${error.message}\n` : ''}`;
  return { ok: status === 0, output };
}

function resolve(name) {
  try {
    return require.resolve(name);
  } catch {
    return undefined;
  }
}

/** Node's own headers where they lie beside it, so that node-gyp need not download them. */
function nodeDir() {
  if (process.env.npm_config_nodedir) return [];
  const prefix = join(dirname(process.execPath), '..');
  return existsSync(join(prefix, 'include', 'node', 'node_api.h')) ? [`--nodedir=${prefix}`] : [];
}

const cmakeJs = {
  script: resolve('cmake-js/bin/cmake-js'),
  missing: run('cmake', ['--version']).ok ? undefined : 'CMake was not found',
};
/** AUTO: the CUDA device where nvcc is found. ON: or an error. OFF. */
const cuda = process.env.GROUPGRAD_CUDA ?? 'AUTO';
/** A CUDA toolkit that does not work must not cost the CPU device. */
const mayFallBack = cuda === 'AUTO' && !cmakeJs.missing && run(process.env.CUDACXX ?? 'nvcc', ['--version']).ok;
const builders = [
  { ...cmakeJs, name: 'cmake-js', args: ['rebuild', `--CDGROUPGRAD_CUDA=${cuda}`] },
  ...(mayFallBack ? [{ ...cmakeJs, name: 'cmake-js without CUDA', args: ['rebuild', '--CDGROUPGRAD_CUDA=OFF'] }] : []),
  {
    name: 'node-gyp',
    script: resolve('node-gyp/bin/node-gyp.js') ?? process.env.npm_config_node_gyp,
    args: ['rebuild', ...nodeDir()],
    // It builds the CPU device alone.
    missing: cuda === 'ON' ? 'it does not build the CUDA device, and GROUPGRAD_CUDA is ON' : undefined,
  },
];

const failures = [];
for (const { name, script, args, missing } of builders) {
  if (missing ?? !script) {
    failures.push(`${name}: ${missing ?? 'not installed'}`);
    continue;
  }
  const { ok, output } = run(process.execPath, [script, ...args]);
  if (ok && existsSync(join(root, 'build', 'Release', 'groupgrad.node'))) {
    for (const failure of failures) console.warn(`groupgrad: not built with ${failure}`);
    console.log(`groupgrad: native addon built with ${name}`);
    process.exit(0);
  }
  failures.push(`${name}:\n${output.trim().split('\n').slice(-25).join('\n')}`);
}

console.error(
  [
    'groupgrad: the native addon could not be built; the slow `reference` device remains.',
    'To get the fast one, install a C++20 compiler (g++ 12 or clang 15, or newer) with CMake or make and Python,',
    'then run `npm rebuild groupgrad` (in a checkout: `npm run build:native`).',
    '',
    ...failures,
  ].join('\n'),
);
process.exit(required ? 1 : 0);
