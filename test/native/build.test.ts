// CMakeLists.txt is the full build, binding.gyp the same addon for machines without CMake: they must not drift apart.

import assert from 'node:assert/strict';
import { cpSync, existsSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test from 'node:test';
import { exists, outputOf, root, run, withFolder } from '../support/native.js';

const read = (file: string) => readFileSync(join(root, file), 'utf8').replace(/#.*$/gm, '');
const cmake = read('CMakeLists.txt');
const gyp = read('binding.gyp');

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
/** What CMake builds where there is a CUDA compiler. */
const needsCuda = (file: string) => /^native\/(cuda|c)\//.test(file);

test('both build systems list the same sources, but for those of CUDA', () => {
  assert.deepEqual(gypList('sources').sort(), sources.filter((file) => !needsCuda(file)).sort());
});

test('CMake lists every source that there is', () => {
  const files = readdirSync(join(root, 'native'), { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.(cpp|cu)$/.test(file))
    .map((file) => `native/${file}`);
  assert.deepEqual(files.sort(), sources.sort());
});

test('both compile with the same flags, and neither with fast-math', () => {
  const flags = cmakeArguments(/set\(groupgrad_flags([^)]*)\)/);
  const gypFlags = gypList('cflags_cc');
  for (const flag of flags) assert.ok(gypFlags.includes(flag), `binding.gyp has ${flag}`);
  // What CMake says in its own words.
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

const slow = Boolean(process.env.CI || process.env.GROUPGRAD_SLOW_TESTS);
const why = !slow
  ? 'takes half a minute: set GROUPGRAD_SLOW_TESTS=1'
  : ['make', 'python3'].every(exists)
    ? false
    : 'node-gyp needs make and Python 3';

test('node-gyp builds an addon that computes', { skip: why }, () => {
  withFolder((folder) => {
    for (const file of ['native', 'src', 'binding.gyp', 'package.json', 'tsconfig.json']) {
      cpSync(join(root, file), join(folder, file), { recursive: true });
    }
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    const prefix = join(dirname(process.execPath), '..');
    const headers = existsSync(join(prefix, 'include', 'node', 'node_api.h')) ? [`--nodedir=${prefix}`] : [];
    const nodeGyp = join(root, 'node_modules', 'node-gyp', 'bin', 'node-gyp.js');
    const built = run(process.execPath, [nodeGyp, 'rebuild', ...headers], { cwd: folder });
    assert.equal(built.status, 0, outputOf(built));
    assert.doesNotMatch(outputOf(built), /warning:/i);

    const program = `
      import { computeAdvantages, devices } from './src/index.js';
      const { advantages } = computeAdvantages([0, 1], { groupSize: 2, scale: 'none' }, { device: 'cpu' });
      console.log(JSON.stringify({ advantages: [...advantages], cpu: devices().find((d) => d.name === 'cpu').detail }));`;
    const env = { ...process.env, GROUPGRAD_ADDON: '' };
    const ran = run(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], { cwd: folder, env });
    assert.equal(ran.status, 0, outputOf(ran));
    const { advantages, cpu } = JSON.parse(ran.stdout) as { advantages: number[]; cpu: string };
    assert.deepEqual(advantages, [-0.5, 0.5]);
    assert.ok(cpu.endsWith(join('build', 'Release', 'groupgrad.node')), cpu);
  });
});
