// Each way in which the addon can fail to load, in a separate process: every reason is reported with a remedy; 'auto'
// continues with the reference device after one warning; 'cpu' is an error.

import assert from 'node:assert/strict';
import { copyFileSync, cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import test from 'node:test';
import { misfit } from '../../src/devices/exports.js';
import { type Addon, loadAddon, missingFrom } from '../../src/devices/load.js';
import { outputOf, root, run, typescript, withFolder } from '../support/native.js';

const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };

const program = `
  const { computeAdvantages, devices, policyLoss } = await import('./src/index.js');
  const warnings = [];
  process.on('warning', (warning) => warnings.push(warning.message));
  const call = (device) => computeAdvantages([0, 1], { groupSize: 2, scale: 'none' }, { device });
  const auto = [...call('auto').advantages];
  call(undefined);
  const input = { shape: { sequences: 1, length: 1 }, logProbs: Float32Array.of(-1), advantages: Float32Array.of(2) };
  const { loss } = policyLoss(input, { surrogate: { kind: 'reinforce' } });
  let error = null;
  try {
    call('cpu');
  } catch ({ name, message }) {
    error = { name, message };
  }
  const { available, detail } = devices().find(({ name }) => name === 'cpu');
  setImmediate(() => console.log(JSON.stringify({ available, detail, auto, loss, error, warnings })));
`;

interface Report {
  available: boolean;
  detail: string;
  auto: number[];
  loss: number;
  error: { name: string; message: string } | null;
  warnings: string[];
}

function load(addon: string | undefined, cwd = root, more: NodeJS.ProcessEnv = {}, first = ''): Report {
  const env = { ...process.env, ...more };
  for (const name of ['GROUPGRAD_ADDON', 'npm_config_user_agent', 'CXX']) delete env[name];
  if (addon !== undefined) env.GROUPGRAD_ADDON = addon;
  const result = run(process.execPath, [...typescript, '--input-type=module', '-e', first + program], { cwd, env });
  assert.equal(result.status, 0, outputOf(result));
  return JSON.parse(result.stdout) as Report;
}

/** Checks that are common to all failures; returns the reason. */
function checkFailure(report: Report, remedy: string): string {
  const { available, detail, auto, loss, error, warnings } = report;
  assert.equal(available, false);
  assert.match(detail, /^there is no native addon: .*\. /);
  assert.ok(detail.endsWith(remedy), detail);
  assert.deepEqual(auto, [-0.5, 0.5]);
  assert.equal(loss, 2);
  assert.deepEqual(error, { name: 'RangeError', message: `options.device: 'cpu' is not available: ${detail}` });
  assert.deepEqual(warnings, [`groupgrad uses its slow reference device: ${detail}`]);
  return detail;
}

const correct = 'Correct or unset GROUPGRAD_ADDON.';
const install = 'To build it: `npm run build:native`.';

test('GROUPGRAD_ADDON that names a missing file', () => {
  const reason = checkFailure(load('/nowhere/groupgrad.node'), correct);
  assert.match(reason, /: GROUPGRAD_ADDON names \/nowhere\/groupgrad\.node, which does not exist\. /);
});

test('a file that is not an addon', () => {
  withFolder((folder) => {
    const path = join(folder, 'groupgrad.node');
    for (const content of ['', 'not an addon'.repeat(1000)]) {
      writeFileSync(path, content);
      const reason = checkFailure(load(path), correct);
      // The system's own message follows.
      assert.match(reason, /: \S+groupgrad\.node could not be loaded: .+\. Correct/);
      assert.ok(reason.includes(path), reason);
    }
  });
});

test('a folder in place of the addon', () => {
  withFolder((folder) => {
    const reason = checkFailure(load(folder), correct);
    assert.ok(reason.includes(`${folder} could not be loaded: `), reason);
  });
});

const loaded = loadAddon();
const skip = loaded.addon ? false : loaded.reason;

/** The addon with a text in it overwritten by another one. */
function withText(text: string, other: string): Buffer {
  const addon = readFileSync((loaded as { path: string }).path);
  const place = addon.indexOf(`\0${text}\0`);
  assert.ok(place > 0 && other.length === text.length);
  addon.write(other, place + 1, 'latin1');
  return addon;
}
const another = version.replaceAll(/\d/g, '9');
const withVersion = (other: string) => withText(version, other);
/** As built from sources in which a function did not exist yet. */
const older = () => withText('decodeAttention', 'decodeAttentioN');

test('an addon of another version', { skip }, () => {
  withFolder((folder) => {
    const path = join(folder, 'groupgrad.node');
    writeFileSync(path, withVersion(another));
    const reason = checkFailure(load(path), correct);
    assert.ok(reason.includes(`: ${path} was built for groupgrad ${another}, this is ${version}. `), reason);
  });
});

test('an addon of this version that was built from older sources: what it lacks', { skip }, () => {
  withFolder((folder) => {
    const path = join(folder, 'groupgrad.node');
    writeFileSync(path, older());
    const reason = checkFailure(load(path), correct);
    const lacks = `: ${path} was built from older sources: it lacks engine.decodeAttention. `;
    assert.ok(reason.includes(lacks), reason);
  });
});

test('every export of the addon is required, and nothing else', { skip }, () => {
  const { version: _, ...parts } = loadAddon().addon!;
  assert.deepEqual(missingFrom(parts), []);
  for (const [part, exports] of Object.entries(parts)) {
    for (const name of Object.keys(exports).filter((each) => each !== 'built')) {
      const { [name]: removed, ...others } = exports as Record<string, unknown>;
      assert.ok(removed !== undefined);
      assert.deepEqual(missingFrom({ ...parts, [part]: others }), [`${part}.${name}`]);
    }
  }
  const withCuda = { ...parts, cuda: { ...parts.cpu, built: true } } as unknown as Addon;
  assert.deepEqual(
    missingFrom(withCuda),
    ['probe', 'allocate', 'write', 'read', 'free'].map((name) => `cuda.${name}`),
  );
  // Built before a part existed.
  const { engine: __, ...before } = parts;
  assert.equal(missingFrom(before).length, Object.keys(parts.engine).length);
});

test('the reason names the first of many, and another version rather than any', () => {
  const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
  const reason = 'was built from older sources: it lacks a, b, c, d, e';
  assert.equal(misfit(version, names.slice(0, 5)), reason);
  assert.equal(misfit(version, names), `${reason} and 2 more`);
  assert.equal(misfit(another, names), `was built for groupgrad ${another}, this is ${version}`);
  assert.equal(misfit(version, []), undefined);
});

test('GROUPGRAD_ADDON may be relative to the working directory', { skip }, () => {
  const { path } = loaded as { path: string };
  const report = load(relative(root, path));
  assert.equal(report.available, true, report.detail);
  assert.ok(report.detail.endsWith(path), report.detail);
  assert.equal(report.error, null);
  assert.deepEqual(report.warnings, []);
});

/** The package without a build, in a separate folder. */
function withPackage(body: (folder: string, places: { built: string; prebuilt: string }) => void): void {
  withFolder((folder) => {
    for (const file of ['src', 'package.json', 'tsconfig.json'])
      cpSync(join(root, file), join(folder, file), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    const places = {
      built: join(folder, 'build', 'Release', 'groupgrad.node'),
      prebuilt: join(folder, 'prebuilds', `${process.platform}-${process.arch}`, 'groupgrad.node'),
    };
    for (const place of Object.values(places)) mkdirSync(dirname(place), { recursive: true });
    body(folder, places);
  });
}

test('nothing built: the cause, and how to build', () => {
  withPackage((folder) => {
    const reason = checkFailure(load(undefined, folder), install);
    assert.equal(reason, `there is no native addon: this checkout has not been built. ${install}`);
  });
});

test('a build that is older than the sources: how to build again', { skip }, () => {
  withPackage((folder, { built }) => {
    writeFileSync(built, older());
    const reason = checkFailure(load(undefined, folder), install);
    const lacks = `there is no native addon: ${built} was built from older sources: it lacks engine.decodeAttention. `;
    assert.equal(reason, lacks + install);
  });
});

test('nothing built and no compiler: what to install first', () => {
  withPackage((folder) => {
    const tools = 'a C++20 compiler (g++ 12 or clang 15, or newer) and CMake with make (or make and Python 3)';
    const path = join(folder, 'bin');
    mkdirSync(path);
    checkFailure(
      load(undefined, folder, { PATH: path }),
      `To build it, install ${tools}, then type \`npm run build:native\`.`,
    );
  });
});

test('two locations with two different reasons: both are reported', { skip }, () => {
  withPackage((folder, { built, prebuilt }) => {
    writeFileSync(built, withVersion(another));
    writeFileSync(prebuilt, 'not an addon');
    const reason = checkFailure(load(undefined, folder), install);
    const first = `${built} was built for groupgrad ${another}, this is ${version}`;
    assert.ok(reason.includes(`: ${first}; ${prebuilt} could not be loaded: `), reason);
  });
});

test('an addon for a newer glibc: that is the cause', {
  skip: skip || (process.platform !== 'linux' && 'Linux only'),
}, () => {
  withFolder((folder) => {
    const addon = readFileSync((loaded as { path: string }).path);
    const place = addon.indexOf('\0GLIBC_2.14\0');
    assert.ok(place > 0);
    addon.write('GLIBC_9.14', place + 1, 'latin1');
    const path = join(folder, 'groupgrad.node');
    writeFileSync(path, addon);
    const reason = checkFailure(load(path), correct);
    assert.ok(
      reason.includes(`${path} could not be loaded: it needs glibc 9.14, and this system has an older one (`),
      reason,
    );
  });
});

test('musl: the prebuilt addon is not tried', { skip: process.platform !== 'linux' && 'Linux only' }, () => {
  withPackage((folder, { prebuilt }) => {
    writeFileSync(prebuilt, 'not an addon');
    // The beginning of the executable of a Node.js for musl.
    const node = join(folder, 'node');
    writeFileSync(node, '\x7fELF…\0/lib/ld-musl-x86_64.so.1\0');
    const reason = checkFailure(load(undefined, folder, {}, `process.execPath = ${JSON.stringify(node)};`), install);
    const needs = `the prebuilt addon for ${process.platform}-${process.arch} needs glibc, and this Node.js uses musl`;
    assert.ok(reason.includes(`this checkout has not been built; ${needs}. `), reason);
  });
});

test('a broken build before a prebuilt binary: the binary is loaded', { skip }, () => {
  withPackage((folder, { built, prebuilt }) => {
    writeFileSync(built, 'not an addon');
    copyFileSync((loaded as { path: string }).path, prebuilt);
    const report = load(undefined, folder);
    assert.equal(report.available, true, report.detail);
    assert.ok(report.detail.endsWith(prebuilt), report.detail);
  });
});
