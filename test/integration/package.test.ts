// The package as npm would publish it: what is in it, and what installing it gives with and without a compiler.

import assert from 'node:assert/strict';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test, { after, before, describe, type TestContext } from 'node:test';
import { cannotBuild, outputOf, root, run } from '../support/native.js';

/** npm's own program, so that it also runs where PATH holds nothing but node. */
const npmCli = [
  process.env.npm_execpath,
  join(dirname(process.execPath), '..', 'lib', 'node_modules', 'npm', 'bin', 'npm-cli.js'),
].find((path) => path !== undefined && existsSync(path));
const noNpm = npmCli === undefined && 'npm was not found beside node';

function npm(args: readonly string[], cwd: string, env: NodeJS.ProcessEnv = {}): ReturnType<typeof run> {
  // Settings that npm passes on to this process, such as the folder it runs in, are not for the npm started here.
  const own = Object.entries(process.env).filter(
    ([name]) => !/^npm_(config_(prefix|local)|package|lifecycle)/.test(name),
  );
  const quiet = { npm_config_fund: 'false', npm_config_audit: 'false', npm_config_update_notifier: 'false' };
  return run(process.execPath, [npmCli as string, ...args], {
    cwd,
    env: { ...Object.fromEntries(own), ...quiet, ...env },
  });
}

let folder = '';
let tarball = '';
let packed: string[] = [];

/** Packs a copy of the checkout, so that `prepare` builds dist from nothing and the checkout's own stays as it is. */
function pack(): void {
  const copy = join(folder, 'checkout');
  const listed = run('git', ['ls-files', '--cached', '--others', '--exclude-standard']);
  assert.equal(listed.status, 0, outputOf(listed));
  for (const file of listed.stdout.split('\n')) {
    if (file !== '' && existsSync(join(root, file))) cpSync(join(root, file), join(copy, file), { recursive: true });
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  // What a developer's checkout also holds, and what must not be published.
  for (const file of ['build/Release/groupgrad.node', 'native/cpu/stray.o', 'runs/1/checkpoint.bin', '.env']) {
    mkdirSync(dirname(join(copy, file)), { recursive: true });
    writeFileSync(join(copy, file), 'stray');
  }
  const result = npm(['pack', '--json', '--pack-destination', folder], copy);
  assert.equal(result.status, 0, outputOf(result));
  const report: unknown = JSON.parse(result.stdout.slice(result.stdout.search(/^[[{]/m)));
  // npm 11 and before: an array; later: by name.
  const [entry] = Object.values(report as Record<string, { filename: string; files: { path: string }[] }>);
  tarball = join(folder, entry.filename);
  packed = entry.files.map(({ path }) => path).sort();
}

const under = (start: string) => packed.filter((path) => path.startsWith(start));
function filesIn(start: string): string[] {
  const files = readdirSync(join(root, start), { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  return files.map((file) => join(file.parentPath, file.name).slice(root.length + 1)).sort();
}

/** Installs the tarball into an empty folder; skips the test where npm cannot get the dependencies. */
function install(t: TestContext, name: string, env: NodeJS.ProcessEnv): { home: string; output: string } | undefined {
  const home = join(folder, name);
  mkdirSync(home);
  writeFileSync(join(home, 'package.json'), JSON.stringify({ name: 'consumer', private: true, type: 'module' }));
  const result = npm(['install', '--prefer-offline', '--foreground-scripts', tarball], home, env);
  const output = outputOf(result);
  if (result.status !== 0 && /ENOTFOUND|EAI_AGAIN|ECONN|ETIMEDOUT|ENOTCACHED|E40\d|E50\d|network/.test(output)) {
    t.skip(`npm cannot get the dependencies: ${output.trim().split('\n')[0]}`);
    return undefined;
  }
  assert.equal(result.status, 0, output);
  return { home, output };
}

function runIn(home: string, program: string): unknown {
  writeFileSync(join(home, 'program.mjs'), program);
  const env = { ...process.env };
  delete env.GROUPGRAD_ADDON;
  const result = run(process.execPath, ['program.mjs'], { cwd: home, env });
  assert.equal(result.status, 0, outputOf(result));
  return JSON.parse(result.stdout);
}

const program = (device: string) => `
  import { devices, logitsLoss, presets } from 'groupgrad';
  process.removeAllListeners('warning');
  const { loss, gradLogits } = logitsLoss(
    {
      shape: { sequences: 2, length: 1, vocab: 2 },
      logits: new Float32Array(4),
      tokens: Int32Array.of(0, 1),
      rewards: [1, 0],
      advantage: { groupSize: 2, scale: 'none' },
    },
    presets.grpo,
    { device: '${device}' },
  );
  const { available, detail } = devices().find(({ name }) => name === 'cpu');
  console.log(JSON.stringify({ loss, gradient: [...gradLogits], available, detail }));`;

interface Answer {
  loss: number;
  gradient: number[];
  available: boolean;
  detail: string;
}

// Ratio 1, advantages ±1/2, probabilities 1/2: the loss is 0, its gradient ∓A (1 − p) / B.
function checkLoss({ loss, gradient }: Answer): void {
  assert.equal(loss, 0);
  assert.deepEqual(gradient, [-0.125, 0.125, -0.125, 0.125]);
}

describe('the package', { skip: noNpm }, () => {
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'groupgrad-package-'));
    pack();
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test('holds all that is built from and nothing else', () => {
    assert.deepEqual(
      under('native/'),
      filesIn('native').filter((file) => !file.endsWith('.o')),
    );
    const compiled = filesIn('src').flatMap((file) => {
      const base = file.replace(/^src\//, 'dist/').replace(/\.ts$/, '');
      return [`${base}.d.ts`, `${base}.js`];
    });
    const types = under('dist/commonjs/');
    for (const path of ['index.d.ts', 'tfjs.d.ts', 'package.json']) {
      assert.ok(types.includes(`dist/commonjs/${path}`), path);
    }
    assert.deepEqual(
      under('dist/').filter((path) => !types.includes(path)),
      compiled.sort(),
    );
    const pages = [...filesIn('docs'), ...filesIn('examples')].filter((path) => !path.startsWith('examples/studies'));
    assert.deepEqual([...under('docs/'), ...under('examples/')], pages);
    const rest = packed.filter((path) => !/^(native|dist|docs|examples)\//.test(path));
    assert.deepEqual(rest, [
      'CHANGELOG.md',
      'CMakeLists.txt',
      'LICENSE',
      'README.md',
      'binding.gyp',
      'package.json',
      'scripts/install.mjs',
      'scripts/setup-tensorflow.mjs',
    ]);
  });

  test('declares as dependencies what its installation and its files need', () => {
    const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<
      string,
      Record<string, string>
    >;
    const imported = under('dist/')
      .filter((path) => path.endsWith('.js'))
      .flatMap((path) => {
        const source = readFileSync(join(folder, 'checkout', path), 'utf8');
        return [...source.matchAll(/(?:from|import) ?\(?['"]([^.'"][^'"]*)['"]/g)].map((match) => match[1]);
      })
      .filter((name) => !name.startsWith('node:'))
      .map((name) =>
        name
          .split('/')
          .slice(0, name.startsWith('@') ? 2 : 1)
          .join('/'),
      );
    for (const name of imported) assert.ok(name in { ...dependencies, ...peerDependencies }, name);
  });

  test('with a compiler: the addon is built, a loss runs on it, types resolve', { skip: cannotBuild() }, (t) => {
    const installed = install(t, 'with-compiler', {});
    if (!installed) return;
    const { home, output } = installed;
    assert.match(output, /groupgrad: native addon built with (cmake-js|node-gyp)/);
    const answer = runIn(home, program('cpu')) as Answer;
    assert.equal(answer.available, true, answer.detail);
    assert.ok(answer.detail.endsWith(join('groupgrad', 'build', 'Release', 'groupgrad.node')), answer.detail);
    checkLoss(answer);

    // The optional peer, without which groupgrad/tfjs is not there.
    symlinkSync(join(root, 'node_modules', '@tensorflow'), join(home, 'node_modules', '@tensorflow'));
    const tfjs = runIn(
      home,
      `import * as tf from '@tensorflow/tfjs-core';
      import '@tensorflow/tfjs-backend-cpu';
      import { presets } from 'groupgrad';
      import { grpoLoss } from 'groupgrad/tfjs';
      const batch = { tokens: Int32Array.of(0, 1), advantages: Float32Array.of(0.5, -0.5) };
      const gradient = tf.grad((x) => grpoLoss(x, batch, presets.grpo))(tf.zeros([2, 1, 2]));
      console.log(JSON.stringify([...gradient.dataSync()]));`,
    );
    assert.deepEqual(tfjs, answer.gradient);

    const options = { module: 'NodeNext', moduleResolution: 'NodeNext', target: 'ES2022', strict: true, noEmit: true };
    // tfjs-core's own declarations want those of a browser; groupgrad's are checked in full.
    const files = { 'main.ts': false, 'tensors.ts': true };
    writeFileSync(
      join(home, 'main.ts'),
      `import { computeAdvantages, DifficultyAnchor, logitsLoss, policyLoss, presets, type LossConfig } from 'groupgrad';
      const config: LossConfig = { ...presets.dapo, kl: { beta: 0.04 } };
      const { advantages } = computeAdvantages([0, 1], { groupSize: 2, hadw: { anchor: new DifficultyAnchor().value } });
      const shape = { sequences: 2, length: 1 };
      export const gradient: Float32Array = policyLoss({ shape, logProbs: new Float32Array(2), advantages }, config).gradLogProbs;
      // @ts-expect-error: advantages are Float32Array
      logitsLoss({ shape: { ...shape, vocab: 2 }, logits: gradient, tokens: new Int32Array(2), advantages: [1] }, config);\n`,
    );
    writeFileSync(
      join(home, 'tensors.ts'),
      `import * as tf from '@tensorflow/tfjs-core';
      import { presets } from 'groupgrad';
      import { type GrpoBatch, grpoLoss } from 'groupgrad/tfjs';
      const batch: GrpoBatch = { tokens: Int32Array.of(0, 1), advantages: tf.tensor1d([1, -1]) };
      export const loss: tf.Scalar = grpoLoss(tf.zeros([2, 1, 2]), batch, presets.grpo);\n`,
    );
    for (const [file, skipLibCheck] of Object.entries(files)) {
      const config = { compilerOptions: { ...options, skipLibCheck, types: [] }, files: [file] };
      writeFileSync(join(home, 'tsconfig.json'), JSON.stringify(config));
      const checked = run(join(root, 'node_modules', '.bin', 'tsc'), ['-p', home]);
      assert.equal(checked.status, 0, outputOf(checked));
    }
  });

  test('without CMake, make or a compiler: it installs, says why there is no addon, and computes', (t) => {
    const bin = join(folder, 'bin');
    mkdirSync(bin);
    symlinkSync(process.execPath, join(bin, 'node'));
    symlinkSync('/bin/sh', join(bin, 'sh'));
    const installed = install(t, 'without-compiler', { PATH: bin, CXX: '', CC: '' });
    if (!installed) return;
    const { home, output } = installed;
    assert.match(output, /groupgrad: the native addon could not be built; the slow `reference` device remains\./);
    assert.match(output, /cmake-js: CMake was not found/);
    assert.match(output, /npm rebuild groupgrad/);
    const answer = runIn(home, program('auto')) as Answer;
    assert.equal(answer.available, false);
    assert.match(answer.detail, /groupgrad\.node: no such file.*npm rebuild groupgrad/);
    checkLoss(answer);

    // Without TensorFlow.js the trainer says what is missing, and the command line runs as far as it goes.
    const missing = runIn(
      home,
      `import { TransformerPolicy } from 'groupgrad';
      const error = await TransformerPolicy.create({ vocabulary: '01' }).catch((problem) => problem);
      console.log(JSON.stringify(error.message));`,
    );
    assert.match(String(missing), /^the trainer needs TensorFlow\.js: npm install @tensorflow\/tfjs-node/);
    const doctor = run(process.execPath, [join(home, 'node_modules', '.bin', 'groupgrad'), 'doctor'], { cwd: home });
    assert.equal(doctor.status, 1, outputOf(doctor));
    assert.match(doctor.stdout, /✓ reference .*✗ tfjs /s);
  });
});
