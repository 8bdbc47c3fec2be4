// CMakeLists.txt is the full build, binding.gyp the same addon for machines without CMake: they must agree.

import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import test from 'node:test';
import { exists, outputOf, root, run, withFolder } from '../support/native.js';
import { slowSet } from '../support/sets.js';

const read = (file: string) => readFileSync(join(root, file), 'utf8').replace(/#.*$/gm, '');
const cmake = read('CMakeLists.txt');
const gyp = read('native/groupgrad.gypi');

function gypList(name: string): string[] {
  const list = new RegExp(`'${name}': \\[([^\\]]*)\\]`).exec(gyp)?.[1];
  assert.ok(list !== undefined, `binding.gyp has ${name}`);
  return [...list.matchAll(/'([^']*)'/g)].map((match) => match[1]);
}

function cmakeArguments(call: RegExp): string[] {
  const found = call.exec(cmake)?.[1];
  assert.ok(found !== undefined, `CMakeLists.txt has ${call}`);
  return found.split(/\s+/).filter((word) => word !== '');
}

const sources = [...cmake.matchAll(/(?<!test\/)\b(native\/[\w/]+\.(cpp|cu))\b/g)].map((match) => match[1]);
/** Sources that CMake builds if there is a CUDA compiler, and for prebuilt addons. */
const isExtra = (file: string) => /^native\/(cuda|c|portable)\//.test(file);

test('both build systems list the same sources, except for CUDA and prebuilt addons', () => {
  const listed = gypList('sources').map((file) => `native/${file}`);
  assert.deepEqual(listed.sort(), sources.filter((file) => !isExtra(file)).sort());
});

/** Part of the binding of tfjs-node, which scripts/setup-tensorflow.mjs links. */
const ofTfjsNode = 'native/tensorflow/log_level.cpp';
/** The addon for MPI, which `groupgrad build --mpi` compiles by itself. */
const ofMpi = 'native/mpi/addon.cpp';

test('CMake lists every source file', () => {
  const files = readdirSync(join(root, 'native'), { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.(cpp|cu)$/.test(file))
    .map((file) => `native/${file}`);
  assert.deepEqual(files.sort(), [...sources, ofTfjsNode, ofMpi].sort());
});

test('both compile with the same flags, and neither with fast-math', () => {
  const flags = cmakeArguments(/set\(groupgrad_flags([^)]*)\)/);
  const gypFlags = gypList('cflags_cc');
  for (const flag of flags) assert.ok(gypFlags.includes(flag), `binding.gyp has ${flag}`);
  // Flags that CMake expresses by properties.
  assert.match(cmake, /set\(CMAKE_CXX_STANDARD 20\)/);
  assert.match(cmake, /set\(CMAKE_CXX_EXTENSIONS OFF\)/);
  assert.match(cmake, /set\(CMAKE_CXX_VISIBILITY_PRESET hidden\)/);
  assert.deepEqual(gypFlags.filter((flag) => !flags.includes(flag)).sort(), ['-fvisibility=hidden', '-std=c++20']);
  for (const build of [cmake, gyp]) assert.doesNotMatch(build, /fast-math|-Ofast|march=native/);
});

test('both build for Node-API 8, the last that Node 20 has, with C++ exceptions', () => {
  const definitions = cmakeArguments(/target_compile_definitions\(groupgrad PRIVATE([^)]*)\)/);
  for (const name of ['NAPI_VERSION=8', 'NODE_ADDON_API_CPP_EXCEPTIONS_ALL'])
    assert.ok(definitions.includes(name), name);
  assert.ok(gypList('defines').includes('NAPI_VERSION=8'));
  assert.match(gyp, /node_addon_api_except_all/);
});

test('groupgrad build --mpi says what is missing, and what does not go with it', () => {
  const build = (args: string[], env = {}) =>
    run(process.execPath, ['--import', 'tsx', 'src/cli/main.ts', 'build', ...args], {
      env: { ...process.env, ...env },
    });
  const missing = build(['--mpi'], { MPICXX: 'no-such-wrapper -O1' });
  assert.equal(missing.status, 1);
  assert.match(missing.stderr, /--mpi: no-such-wrapper was not found; install MPI .* or set MPICXX/);
  for (const flag of [['--cuda', 'on'], ['--debug']]) {
    const usage = build(['--mpi', ...flag]);
    assert.equal(usage.status, 2);
    assert.match(usage.stderr, /--mpi: expected neither --cuda nor --debug with it/);
  }
});

const why =
  slowSet('takes half a minute') || (!['make', 'python3'].every(exists) && 'node-gyp needs make and Python 3');

test('groupgrad build without CMake: node-gyp builds an addon that computes', { skip: why }, () => {
  withFolder((folder) => {
    // Everything that a build needs except CMake.
    const bin = join(folder, 'bin');
    mkdirSync(bin);
    for (const path of (process.env.PATH ?? '').split(delimiter).filter((each) => existsSync(each))) {
      for (const name of readdirSync(path).filter((each) => each !== 'cmake' && !existsSync(join(bin, each)))) {
        symlinkSync(join(path, name), join(bin, name));
      }
    }
    for (const name of ['native', 'dist', 'package.json'])
      cpSync(join(root, name), join(folder, name), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    const { npm_config_node_gyp: _, ...inherited } = process.env;
    const env = { ...inherited, GROUPGRAD_ADDON: '', PATH: bin, XDG_CACHE_HOME: join(folder, 'cache') };
    const built = run(process.execPath, [join('dist', 'cli', 'main.js'), 'build', '--cuda', 'off'], {
      cwd: folder,
      env,
    });
    assert.equal(built.status, 0, outputOf(built));
    assert.match(built.stdout, /with node-gyp/);
    assert.doesNotMatch(outputOf(built), /warning:/i);

    const program = `
      import { computeAdvantages, devices } from './dist/index.js';
      const { advantages } = computeAdvantages([0, 1], { groupSize: 2, scale: 'none' }, { device: 'cpu' });
      console.log(JSON.stringify({ advantages: [...advantages], cpu: devices().find((d) => d.name === 'cpu').detail }));`;
    const ran = run(process.execPath, ['--input-type=module', '-e', program], { cwd: folder, env });
    assert.equal(ran.status, 0, outputOf(ran));
    const { advantages, cpu } = JSON.parse(ran.stdout) as { advantages: number[]; cpu: string };
    assert.deepEqual(advantages, [-0.5, 0.5]);
    assert.ok(cpu.endsWith(built.stdout.trim().split('\n').at(-1) as string), cpu);
    assert.ok(cpu.includes(join(folder, 'cache', 'groupgrad', 'addons')), cpu);
  });
});
