// The package as npm would publish it: its contents, and the result of installing it with every package manager, with install
// scripts blocked and no compiler. Nothing is compiled here: the addon is the one of `npm run prebuild`, or, if that has not
// been run, the checkout's own.

import assert from 'node:assert/strict';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import test, { after, before, describe, type TestContext } from 'node:test';
import { ownBuild, platform, prebuiltAddon } from '../../src/devices/places.js';
import { outputOf, root, run } from '../support/native.js';
import { slowSet } from '../support/sets.js';

/** npm's own program, so that it also runs where PATH contains only node. */
const npmCli = [
  process.env.npm_execpath,
  join(dirname(process.execPath), '..', 'lib', 'node_modules', 'npm', 'bin', 'npm-cli.js'),
].find((path) => path?.endsWith('npm-cli.js') && existsSync(path)) as string;

const addon = [prebuiltAddon(), ownBuild().path].find((path) => existsSync(path));
const skip = !npmCli ? 'npm was not found next to node' : addon === undefined && 'there is no addon: npm run prebuild';

/** The environment of this process without npm's variables, with the given PATH. */
function environment(path = process.env.PATH): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !/^(npm_|GROUPGRAD_|INIT_CWD)/.test(name));
  const quiet = { npm_config_fund: 'false', npm_config_audit: 'false', npm_config_update_notifier: 'false' };
  return { ...Object.fromEntries(own), ...quiet, PATH: path };
}

function npm(args: readonly string[], cwd: string, env: NodeJS.ProcessEnv = environment()): ReturnType<typeof run> {
  return run(process.execPath, [npmCli, ...args], { cwd, env });
}

let folder = '';
let checkout = '';
let tarball = '';
let packed: string[] = [];
/** Contains node and sh, but no compiler. */
let bin = '';

/** A copy of the checkout with its addon, which tests may break. */
function copyCheckout(): void {
  checkout = join(folder, 'checkout');
  const listed = run('git', ['ls-files', '--cached', '--others', '--exclude-standard']);
  assert.equal(listed.status, 0, outputOf(listed));
  for (const file of listed.stdout.split('\n')) {
    if (file !== '' && existsSync(join(root, file)))
      cpSync(join(root, file), join(checkout, file), { recursive: true });
  }
  symlinkSync(join(root, 'node_modules'), join(checkout, 'node_modules'));
  mkdirSync(join(checkout, 'prebuilds', platform), { recursive: true });
  const manifest = join(dirname(prebuiltAddon()), 'build.json');
  if (existsSync(manifest))
    cpSync(dirname(prebuiltAddon()), join(checkout, 'prebuilds', platform), { recursive: true });
  else copyFileSync(addon as string, join(checkout, 'prebuilds', platform, 'groupgrad.node'));
  // Files that a developer's checkout may also contain, which must not be published.
  for (const file of ['build/Release/groupgrad.node', 'native/cpu/stray.o', 'runs/1/checkpoint.bin', '.env']) {
    mkdirSync(dirname(join(checkout, file)), { recursive: true });
    writeFileSync(join(checkout, file), 'stray');
  }
}

function pack(): void {
  const prepared = npm(['run', 'prepare'], checkout);
  assert.equal(prepared.status, 0, outputOf(prepared));
  // Its scripts have been run; otherwise it would compile.
  const result = npm(['pack', '--json', '--ignore-scripts', '--pack-destination', folder], checkout);
  assert.equal(result.status, 0, outputOf(result));
  const report: unknown = JSON.parse(result.stdout);
  // npm 11 and earlier: an array; later: by name.
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

const unreachable =
  /ENOTFOUND|EAI_AGAIN|ECONN|ETIMEDOUT|ENOTCACHED|E40\d|E50\d|network|ConnectionRefused|FailedToOpen/i;

/** How each package manager adds packages; all except npm itself come from the registry. */
const managers = {
  'npm with --ignore-scripts': {
    add: ['install', '--ignore-scripts', '--prefer-offline'],
    run: 'npx',
    install: 'npm install',
  },
  'npm 12': {
    from: 'npm@12',
    program: 'bin/npm-cli.js',
    add: ['install', '--prefer-offline'],
    run: 'npx',
    install: 'npm install',
  },
  'pnpm 10': {
    from: 'pnpm@10',
    program: 'bin/pnpm.cjs',
    add: ['add', '--prefer-offline'],
    run: 'pnpm exec',
    install: 'pnpm add',
  },
  'yarn 1': {
    from: 'yarn@1',
    program: 'bin/yarn.js',
    add: ['add', '--prefer-offline'],
    run: 'yarn',
    install: 'yarn add',
  },
  bun: {
    from: `@oven/bun-${process.platform}-${process.arch}`,
    program: 'bin/bun',
    add: ['add'],
    run: 'bunx',
    install: 'bun add',
  },
} as const;
type Manager = keyof typeof managers;

const tfjs = ['@tensorflow/tfjs-core@4.22.0', '@tensorflow/tfjs-backend-wasm@4.22.0'];

/** The command line of a package manager. Undefined, and the test skipped, if it is not available. */
function command(t: TestContext, name: Manager): string[] | undefined {
  const manager = managers[name];
  if (!('from' in manager)) return [process.execPath, npmCli];
  const home = join(folder, 'managers', name);
  mkdirSync(home, { recursive: true });
  const options = ['--no-save', '--ignore-scripts', '--prefer-offline', '--prefix', home];
  const result = npm(['install', ...options, `it@npm:${manager.from}`], home);
  if (result.status !== 0) return skipped(t, outputOf(result));
  const program = join(home, 'node_modules', 'it', manager.program);
  if (manager.program === 'bin/bun') chmodSync(program, 0o755);
  return manager.program === 'bin/bun' ? [program] : [process.execPath, program];
}

function skipped(t: TestContext, output: string): undefined {
  assert.match(output, unreachable);
  t.skip(`the registry cannot be reached: ${output.trim().split('\n').at(-1)}`);
}

/** Adds packages to an empty project, with only node on PATH. Returns false, with the test skipped, if they are not available. */
function install(t: TestContext, name: Manager, packages: readonly string[], home: string): boolean {
  const start = command(t, name);
  if (!start) return false;
  mkdirSync(home, { recursive: true });
  if (!existsSync(join(home, 'package.json'))) {
    writeFileSync(join(home, 'package.json'), JSON.stringify({ name: 'consumer', private: true, type: 'module' }));
  }
  const [program, ...args] = [...start, ...managers[name].add, ...packages];
  const result = run(program, args, { cwd: home, env: environment(bin) });
  if (result.status !== 0) skipped(t, outputOf(result));
  return result.status === 0;
}

/** The packages of an installation by npm that run something when they are installed, to fetch or to build. */
function packagesWithScripts(home: string): string[] {
  const { packages } = JSON.parse(readFileSync(join(home, 'node_modules', '.package-lock.json'), 'utf8')) as {
    packages: Record<string, { hasInstallScript?: boolean }>;
  };
  const names = Object.keys(packages);
  for (const name of ['groupgrad', '@tensorflow/tfjs-core']) assert.ok(names.includes(`node_modules/${name}`), name);
  return names.filter((name) => packages[name].hasInstallScript);
}

function runIn(home: string, program: string, env: NodeJS.ProcessEnv = environment(bin)): unknown {
  writeFileSync(join(home, 'program.mjs'), program);
  const result = run(process.execPath, ['program.mjs'], { cwd: home, env });
  assert.equal(result.status, 0, outputOf(result));
  return JSON.parse(result.stdout.trim().split('\n').at(-1) as string);
}

function groupgrad(home: string, args: readonly string[], env = environment(bin)) {
  return run(process.execPath, [join(home, 'node_modules', 'groupgrad', 'dist', 'cli', 'main.js'), ...args], {
    cwd: home,
    env,
  });
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

describe('the package', { skip }, () => {
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'groupgrad-package-'));
    bin = join(folder, 'bin');
    mkdirSync(bin);
    symlinkSync(process.execPath, join(bin, 'node'));
    symlinkSync('/bin/sh', join(bin, 'sh'));
    copyCheckout();
    pack();
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test('contains everything needed to build it, the addon, and nothing else', () => {
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
    assert.ok(packed.includes(`prebuilds/${platform}/groupgrad.node`));
    const rest = packed.filter((path) => !/^(native|dist|docs|examples|prebuilds)\//.test(path));
    assert.deepEqual(rest, [
      'CHANGELOG.md',
      'CMakeLists.txt',
      'LICENSE',
      'README.md',
      'package.json',
      'scripts/log-level-library.mjs',
      'scripts/prepare.mjs',
      'scripts/setup-tensorflow.mjs',
    ]);
  });

  test('is smaller than 8 MB, and runs nothing when it is installed', () => {
    assert.ok(statSync(tarball).size < 8e6, `${statSync(tarball).size} bytes`);
    const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: object };
    for (const name of ['preinstall', 'install', 'postinstall']) assert.ok(!(name in scripts), name);
    // pnpm and yarn treat it as an install script.
    assert.ok(!packed.includes('binding.gyp'));
  });

  test('declares as dependencies what its installation and its files need', () => {
    const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<
      string,
      Record<string, string>
    >;
    const imported = under('dist/')
      .filter((path) => path.endsWith('.js'))
      .flatMap((path) => {
        const source = readFileSync(join(checkout, path), 'utf8');
        return [...source.matchAll(/(?:from|import) ?\(?['"]([^.'"][^'"]*)['"]/g)].map((match) => match[1]);
      })
      // Examples in comments import the package itself; tsx is loaded only where the sources are run, not in dist.
      .filter((name) => !/^(node:|groupgrad\b|tsx\b)/.test(name))
      .map((name) =>
        name
          .split('/')
          .slice(0, name.startsWith('@') ? 2 : 1)
          .join('/'),
      );
    for (const name of imported) assert.ok(name in { ...dependencies, ...peerDependencies }, name);
  });

  for (const name of Object.keys(managers) as Manager[]) {
    const skip = 'from' in managers[name] && slowSet('fetches another package manager');
    test(`${name}, scripts blocked, no compiler: the addon works and a policy is trained`, { skip }, (t) => {
      const home = join(folder, name);
      if (!install(t, name, [tarball, ...tfjs], home)) return;
      if (name.startsWith('npm')) assert.deepEqual(packagesWithScripts(home), []);
      const answer = runIn(home, program('cpu')) as Answer;
      assert.equal(answer.available, true, answer.detail);
      assert.ok(answer.detail.endsWith(join('prebuilds', platform, 'groupgrad.node')), answer.detail);
      checkLoss(answer);
      const trained = runIn(
        home,
        `import { GrpoTrainer, presets, tasks, TransformerPolicy } from 'groupgrad';
        const train = tasks.addition({ digits: 1, seed: 1 });
        const size = { layers: 2, width: 32, heads: 4, hidden: 64 };
        const trainer = await GrpoTrainer.create({
          policy: TransformerPolicy.create({ ...size, vocabulary: train.characters, seed: 1 }),
          train, loss: presets.dapo, hadw: {}, promptsPerStep: 16, groupSize: 4, seed: 1,
        });
        const losses = [];
        for await (const step of trainer.steps({ max: 5 })) losses.push(step.metrics.loss);
        console.log(JSON.stringify(losses));`,
      ) as number[];
      assert.equal(trained.length, 5);
      for (const loss of trained) assert.ok(Number.isFinite(loss));

      const doctor = groupgrad(home, ['doctor', '--json']);
      assert.equal(doctor.status, 0, outputOf(doctor));
      const report = JSON.parse(doctor.stdout) as { addon: { detail: string }; packageManager: string };
      assert.match(report.addon.detail, /^prebuilt, /);
      assert.equal(report.packageManager, name.split(' ')[0]);
    });
  }

  const waits = slowSet('installs once more');
  test('without TensorFlow.js: the loss works, and training says what to install', { skip: waits }, (t) => {
    const home = join(folder, 'alone');
    if (!install(t, 'npm with --ignore-scripts', [tarball], home)) return;
    checkLoss(runIn(home, program('auto')) as Answer);
    // tfjs-core alone takes 37 MB of the disk.
    const files = readdirSync(join(home, 'node_modules'), { recursive: true, encoding: 'utf8' });
    const bytes = files.reduce((sum, file) => sum + statSync(join(home, 'node_modules', file)).size, 0);
    t.diagnostic(`${(bytes / 1e6).toFixed(1)} MB installed`);
    assert.ok(bytes < 16e6, `${bytes} bytes`);

    const typed = 'npm install @tensorflow/tfjs-core @tensorflow/tfjs-backend-wasm';
    const messages = runIn(
      home,
      `import { TransformerPolicy } from 'groupgrad';
      const policy = await TransformerPolicy.create({ vocabulary: '01' }).catch((problem) => problem.message);
      const entry = await import('groupgrad/tfjs').catch((problem) => problem.message);
      const backend = await import('groupgrad/backend').catch((problem) => problem.message);
      console.log(JSON.stringify({ policy, entry, backend }));`,
    );
    assert.deepEqual(messages, {
      policy: `the transformer policy needs TensorFlow.js, which is not installed: ${typed}`,
      entry: `groupgrad/tfjs needs TensorFlow.js, which is not installed: ${typed}`,
      backend: `groupgrad/backend needs TensorFlow.js, which is not installed: ${typed}`,
    });
    for (const args of [
      ['train', 'addition'],
      ['sample', 'runs/1', '1+1='],
      ['compare', 'compare.json'],
    ]) {
      if (args[0] === 'compare') writeFileSync(join(home, args[1]), JSON.stringify(comparison));
      const result = groupgrad(home, args);
      assert.equal(result.status, 1, outputOf(result));
      assert.ok(outputOf(result).includes(`needs TensorFlow.js, which is not installed: ${typed}`), outputOf(result));
    }
    // Of another package manager.
    writeFileSync(join(home, 'pnpm-lock.yaml'), '');
    rmSync(join(home, 'package-lock.json'));
    const train = groupgrad(home, ['train', 'addition']);
    assert.match(train.stderr, /^groupgrad: groupgrad train needs .*: pnpm add @tensorflow\/tfjs-core /);

    const doctor = groupgrad(home, ['doctor']);
    assert.equal(doctor.status, 0, outputOf(doctor));
    checkDoctor(doctor.stdout);
    assert.match(
      doctor.stdout,
      /✗ tfjs +not installed\n +→ pnpm add @tensorflow\/tfjs-core @tensorflow\/tfjs-backend-wasm\n/,
    );
  });

  test('its types are valid in a strict project', { skip: slowSet('installs once more') }, (t) => {
    const home = join(folder, 'types');
    if (!install(t, 'npm with --ignore-scripts', [tarball], home)) return;
    symlinkSync(join(root, 'node_modules', '@tensorflow'), join(home, 'node_modules', '@tensorflow'));
    const options = { module: 'NodeNext', moduleResolution: 'NodeNext', target: 'ES2022', strict: true, noEmit: true };
    // tfjs-core's own declarations need those of a browser; groupgrad's are checked in full.
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

  test('a project in which its scripts run, as npm rebuild runs prepare for a link: nothing is lost', (t) => {
    const home = join(folder, 'linked');
    const installed = join(folder, 'store', 'groupgrad');
    mkdirSync(installed, { recursive: true });
    const unpacked = run('tar', ['xzf', tarball, '-C', installed, '--strip-components=1']);
    assert.equal(unpacked.status, 0, outputOf(unpacked));
    mkdirSync(join(home, 'node_modules'), { recursive: true });
    symlinkSync(installed, join(home, 'node_modules', 'groupgrad'));
    writeFileSync(
      join(home, 'package.json'),
      JSON.stringify({ dependencies: { groupgrad: 'file:../store/groupgrad' } }),
    );
    const before = readdirSync(installed, { recursive: true }).sort();
    const rebuilt = npm(['rebuild', 'groupgrad', '--foreground-scripts'], home);
    assert.equal(rebuilt.status, 0, outputOf(rebuilt));
    assert.match(outputOf(rebuilt), /prepare/); // the script was run
    const strip = (paths: typeof before) => paths.filter((path) => !/^node_modules|package-lock/.test(String(path)));
    assert.deepEqual(strip(readdirSync(installed, { recursive: true }).sort()), strip(before));
    t.diagnostic(outputOf(rebuilt).trim());
  });

  test('npx in a checkout runs the checkout', { skip: slowSet('installs once more') }, (t) => {
    const built = join(checkout, 'build', 'Release', 'groupgrad.node');
    copyFileSync(addon as string, built);
    const main = join(checkout, 'dist', 'cli', 'main.js');
    const dates = () => [built, main].map((file) => statSync(file).mtimeMs);
    const before = dates();
    const env = { ...environment(), npm_config_cache: join(folder, 'npx-cache') };
    const result = npm(['exec', '--offline', '--', 'groupgrad', 'doctor', '--json'], checkout, env);
    if (result.status !== 0 && unreachable.test(outputOf(result))) return skipped(t, outputOf(result));
    assert.equal(result.status, 0, outputOf(result));
    const { addon: found } = JSON.parse(result.stdout) as { addon: { detail: string } };
    assert.equal(found.detail, `build of this checkout, ${join('build', 'Release', 'groupgrad.node')}`);
    assert.deepEqual(dates(), before);
  });

  test('groupgrad build: progress, the time, and an addon that the loader prefers and a new installation keeps', {
    skip: slowSet('installs and builds'),
  }, (t) => {
    const home = join(folder, 'builds');
    if (!install(t, 'npm with --ignore-scripts', [tarball], home)) return;
    // A compiler that does nothing and succeeds.
    const tools = join(folder, 'tools');
    mkdirSync(tools);
    const script = (name: string, text: string) =>
      writeFileSync(join(tools, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    for (const name of ['c++', 'ninja']) script(name, 'exit 0');
    script(
      'cmake',
      `if [ "$1" = --build ]; then
        echo "[1/2] compiling"; echo "[2/2] linking"; ${'/bin/cp'} '${addon}' "$2/groupgrad.node"
      else while [ "$1" != -B ]; do shift; done; /bin/mkdir -p "$2"; echo "$@" > '${folder}/configured'; fi`,
    );
    const env = { ...environment([tools, bin].join(delimiter)), XDG_CACHE_HOME: join(folder, 'cache') };
    const built = groupgrad(home, ['build', '--cuda', 'off', '--debug'], env);
    assert.equal(built.status, 0, outputOf(built));
    const cached = join(folder, 'cache', 'groupgrad');
    const lines = built.stdout.trim().split('\n');
    assert.match(lines[0], /^groupgrad build: version [\d.]+ for \w+-\w+, for debugging$/);
    assert.ok(lines.includes('  compiling 100 %'), built.stdout);
    assert.match(
      built.stdout.replaceAll(/\s+/g, ' '),
      /groupgrad build: built in \d+ s with CMake, .*, without the CUDA/,
    );
    const path = lines.at(-1) as string;
    assert.ok(path.startsWith(join(cached, 'addons')) && path.endsWith('groupgrad.node'), path);
    assert.match(readFileSync(join(folder, 'configured'), 'utf8'), /CUDA=OFF .*BUILD_TYPE=Debug/);
    assert.deepEqual(readdirSync(cached), ['addons']);

    rmSync(join(home, 'node_modules'), { recursive: true });
    if (!install(t, 'npm with --ignore-scripts', [tarball], home)) return;
    const own = runIn(home, program('cpu'), env) as Answer;
    assert.ok(own.detail.endsWith(path), own.detail);
    checkLoss(own);
    // One that does not load is skipped, and doctor says so.
    writeFileSync(path, 'no addon');
    const after = runIn(home, program('cpu'), env) as Answer;
    assert.ok(after.detail.endsWith(join('prebuilds', platform, 'groupgrad.node')), after.detail);
    const doctor = groupgrad(home, ['doctor'], env);
    assert.match(doctor.stdout.replaceAll(/\s+/g, ' '), /✓ addon prebuilt, .* skipped: .* could not be loaded/);
    checkDoctor(doctor.stdout);

    // A compiler that fails: its message is shown, and nothing is left behind.
    script('cmake', '[ "$1" = --build ] && echo "no such instruction" && exit 1; exit 0');
    const failed = groupgrad(home, ['build', '--cuda', 'off'], env);
    assert.equal(failed.status, 1);
    assert.match(
      failed.stderr,
      /the addon could not be built with CMake: .*cmake --build ended with exit code 1\nno such instruction/,
    );
    assert.deepEqual(readdirSync(cached), ['addons']);
  });

  test('without an addon for the platform: what is missing, and the commands to install it', {
    skip: slowSet('installs once more'),
  }, (t) => {
    const home = join(folder, 'bare');
    if (!install(t, 'npm with --ignore-scripts', [tarball], home)) return;
    rmSync(join(home, 'node_modules', 'groupgrad', 'prebuilds'), { recursive: true });
    const env = { ...environment(bin), XDG_CACHE_HOME: join(folder, 'no-cache') };
    const { available, detail, ...answer } = runIn(home, program('auto'), env) as Answer;
    assert.equal(available, false);
    checkLoss({ available, detail, ...answer });
    const cause = `there is no native addon: groupgrad has no prebuilt addon for ${platform}. `;
    const tools = 'a C++20 compiler (g++ 12 or clang 15, or newer) and CMake with make (or make and Python 3)';
    assert.equal(detail, `${cause}To build it, install ${tools}, then type \`npx groupgrad build\`.`);
    const built = groupgrad(home, ['build'], env);
    assert.equal(built.status, 1);
    assert.equal(built.stderr, `groupgrad: to build the addon, install ${tools}\n`);
    const doctor = groupgrad(home, ['doctor'], env);
    assert.equal(doctor.status, 0); // the loss works, on the reference device
    checkDoctor(doctor.stdout);
    assert.match(doctor.stdout, new RegExp(`✗ addon +groupgrad has no prebuilt addon for ${platform}\n`));
  });
});

const comparison = {
  base: { train: { task: 'addition', digits: 1 }, policy: { layers: 1, width: 8, heads: 2, hidden: 12 }, steps: 1 },
  variants: { grpo: { loss: 'grpo' }, dapo: { loss: 'dapo' } },
  seeds: [1],
};

/** No line wider than a terminal, no line twice. */
function checkDoctor(text: string): void {
  const lines = text.split('\n').filter((line) => line !== '');
  for (const line of lines) assert.ok(line.length <= 80, line);
  const findings = lines
    .filter((line) => /^ {2}[✓✗]/.test(line))
    .map((line) => line.replace(/ needs (the native addon|TensorFlow\.js)$/, ''));
  assert.equal(new Set(findings).size, findings.length, text);
}
