// The prebuilt addon (`npm run prebuild`) runs on older Linux: it needs nothing newer than docs/install.md says, and contains
// its C++ runtime. scripts/check-old-debian.sh runs it on an old system.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { platform, prebuiltAddon } from '../../src/devices/places.js';
import { exists, outputOf, root, run, typescript, withFolder } from '../support/native.js';

const addon = prebuiltAddon();
const noLinux = process.platform !== 'linux' && 'prebuilt addons for Linux are tested there';
const missing = !existsSync(addon) && !process.env.CI && 'there is no prebuilt addon: npm run prebuild';
const skip = noLinux || missing || (!exists('readelf') && 'readelf was not found');

function readelf(...args: string[]): string {
  const result = run('readelf', ['--wide', ...args]);
  assert.equal(result.status, 0, outputOf(result));
  return result.stdout;
}

const numbers = (version: string) => version.split('.').map(Number);

describe(`the prebuilt addon for ${platform}`, { skip }, () => {
  const floor = /glibc \*\*([\d.]+)\*\*/.exec(readFileSync(join(root, 'docs', 'install.md'), 'utf8'))?.[1] as string;

  test('needs no newer glibc than the documentation says, which every supported Node.js has', () => {
    assert.match(floor, /^2\.\d+$/);
    assert.ok(numbers(floor)[1] <= 28); // the glibc that Node.js 20 and 22 need
    const versions = [...readelf('--version-info', addon).matchAll(/Name: GLIBC_([\d.]+)/g)].map((match) => match[1]);
    assert.ok(versions.length > 0);
    for (const version of versions) assert.ok(numbers(version)[1] <= numbers(floor)[1], version);
    const { glibc } = JSON.parse(readFileSync(join(dirname(addon), 'build.json'), 'utf8')) as { glibc: string };
    assert.equal(glibc, floor);
  });

  test('contains the C++ runtime', () => {
    assert.doesNotMatch(readelf('--version-info', addon), /GLIBCXX_|CXXABI_|GCC_/);
    const libraries = [...readelf('--dynamic', addon).matchAll(/\(NEEDED\).*\[(.*)\]/g)].map((match) => match[1]);
    assert.ok(libraries.includes('libc.so.6'));
    for (const library of libraries) assert.match(library, /^(lib(c|m|dl|pthread|rt)|ld-linux[\w-]*)\.so\.\d$/);
  });

  test('turns a C++ exception into an error of its own', () => {
    const program = `
      import { logitsLoss, presets } from './src/index.js';
      const input = { shape: { sequences: 1, length: 1, vocab: 2 }, logits: new Float32Array(2), tokens: Int32Array.of(5) };
      try {
        logitsLoss({ ...input, advantages: Float32Array.of(1) }, presets.grpo, { device: 'cpu' });
      } catch (error) {
        console.log(error.message);
      }`;
    const env = { ...process.env, GROUPGRAD_ADDON: addon };
    const result = run(process.execPath, [...typescript, '--input-type=module', '-e', program], { env });
    assert.equal(result.stdout, 'tokens[0]: expected an id from 0 to 1, got 5\n', outputOf(result));
  });
});

const noCompiler = noLinux || (!(exists('cc') && exists('readelf')) && 'a C compiler and readelf are needed');

test('stubs use the newest version of a symbol that is old enough', { skip: noCompiler }, () => {
  withFolder((folder) => {
    const made = run(process.execPath, [join(root, 'scripts', 'glibc-stubs.mjs'), folder, '2.17']);
    assert.equal(made.status, 0, outputOf(made));
    const symbols = (library: string) => readelf('--dyn-syms', join(folder, library));
    if (process.arch === 'x64') assert.match(symbols('libc.so.6'), / memcpy@@GLIBC_2\.14\n/); // 2.2.5 exists too
    assert.match(symbols('libc.so.6'), / pthread_create@@GLIBC_2\./);
    assert.match(symbols('libm.so.6'), / exp@@GLIBC_2\./);
    // Since 2.25 and 2.27.
    assert.doesNotMatch(symbols('libc.so.6'), / (getentropy|copy_file_range)@/);
    const wrong = run(process.execPath, [join(root, 'scripts', 'glibc-stubs.mjs'), folder, 'old']);
    assert.equal(wrong.status, 2);
  });
});
