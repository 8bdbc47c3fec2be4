// Installs a working @tensorflow/tfjs-node into node_modules of the current folder: `npm run setup:tensorflow` in a checkout,
// `node node_modules/groupgrad/scripts/setup-tensorflow.mjs` in a project that depends on groupgrad, where it becomes an
// optional dependency in package.json, so that an installation elsewhere does not fail if the package's own installer does.
// Does nothing if it already works. It tries the package's own installer first; if that cannot get its TensorFlow (2.9.1), the
// libraries of TensorFlow's Python wheel are used instead, and the binding is built from source against them.
//
//   --gpu                 tfjs-node-gpu; from a wheel: TensorFlow for CUDA 12 with NVIDIA's libraries
//   --wheel               use the wheel without trying the package's own installer: for GPUs newer than its CUDA 11.2
//   --time-limit <s>      for each download and each build, in seconds; default 1800
//
// Needs npm (or the project's pnpm, yarn or bun); for the wheel also Python 3 with pip, whose own settings say where packages
// come from, a C++ compiler and
// make. Wheels are unpacked once, into $XDG_CACHE_HOME/groupgrad or ~/.cache/groupgrad.

import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { homedir, tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { compileCommand, linkFlags } from './log-level-library.mjs';

const tfjsVersion = '4.22.0';
// native/tensorflow/log_level.cpp names a function of this version.
const tensorflowVersion = '2.21.0';

const flags = parseFlags();
const timeLimit = Number(flags['time-limit']);
if (!(timeLimit > 0)) fail(`--time-limit: expected a number of seconds above 0, got ${flags['time-limit']}`);

const root = process.cwd();
const name = flags.gpu ? '@tensorflow/tfjs-node-gpu' : '@tensorflow/tfjs-node';
const folder = join(root, 'node_modules', ...name.split('/'));

function fail(message) {
  console.error(`setup:tensorflow: ${message}`);
  process.exit(1);
}

function parseFlags() {
  const options = {
    gpu: { type: 'boolean', default: false },
    wheel: { type: 'boolean', default: false },
    'time-limit': { type: 'string', default: '1800' },
  };
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    return fail(error.message);
  }
}

function say(message) {
  console.log(`setup:tensorflow: ${message}`);
}

/** Runs a command; an Error with the end of its output if it fails or takes too long. */
function run(command, args, { cwd = root, env = {} } = {}) {
  const result = spawnSync(command, args, {
    cwd,
    // Under `npm run -s` the programs started here would be silent too, and their error messages lost.
    env: { ...process.env, npm_config_loglevel: 'notice', npm_config_silent: undefined, ...env },
    encoding: 'utf8',
    timeout: 1000 * timeLimit,
    killSignal: 'SIGKILL',
    maxBuffer: 1 << 28,
  });
  if (result.status === 0) return result.stdout;
  const said = `${result.stdout ?? ''}${result.stderr ?? ''}`.trim().split('\n').slice(-15).join('\n');
  const why =
    result.error?.code === 'ETIMEDOUT' ? `took more than ${timeLimit} s` : (result.error?.message ?? 'failed');
  throw new Error(`${[command, ...args].join(' ').slice(0, 200)} ${why}\n${said}`);
}

/** npm's own program, found next to node: a script that npm runs may not have npm on its path. */
function npm(args, cwd) {
  const beside = join(dirname(process.execPath), '..', 'lib', 'node_modules', 'npm', 'bin', 'npm-cli.js');
  const program = [process.env.npm_execpath, beside].find((path) => path?.endsWith('.js') && existsSync(path));
  // npm's variables for the script that it runs must not reach the npm started here.
  const env = Object.fromEntries(
    Object.keys(process.env)
      .filter((key) => /^npm_(package|lifecycle|config_local_prefix|config_prefix)/.test(key))
      .map((key) => [key, undefined]),
  );
  return program ? run(process.execPath, [program, ...args], { cwd, env }) : run('npm', args, { cwd, env });
}

/** Describes the working binding, or returns an Error that says why it does not work. tfjs-node 4.22 needs both functions of util. */
function probe() {
  const program = `
    const util = require('node:util');
    util.isNullOrUndefined ??= (value) => value === undefined || value === null;
    util.isArray ??= Array.isArray;
    const tf = require(${JSON.stringify(name)});
    if (tf.tensor1d([1, 2]).square().sum().dataSync()[0] !== 5) throw new Error('it computes a wrong result');
    const { version, backend } = tf.node ? { version: tf.version['tfjs-node'], backend: tf.backend() } : {};
    console.log('result: ' + version + ', TensorFlow ' + backend.binding.TF_Version + ', on the ' +
      (backend.isUsingGpuDevice ? 'GPU' : 'CPU'));`;
  const said = run(process.execPath, ['-e', program], { env: { TF_CPP_MIN_LOG_LEVEL: '3' } });
  const result = /^result: (.*)$/m.exec(said)[1];
  if (flags.gpu && !result.endsWith('GPU')) throw new Error(`TensorFlow finds no GPU that it can use: ${result}`);
  return result;
}

/** The result of `work`, or the Error that it threw. */
function attempt(work) {
  try {
    return work();
  } catch (error) {
    return error;
  }
}

/** Whether the package is recorded in the package.json of this folder: not in a checkout of groupgrad. */
function isProject() {
  const file = join(root, 'package.json');
  return existsSync(file) && JSON.parse(readFileSync(file, 'utf8')).name !== 'groupgrad';
}

/** Downloads the package without its binding. */
function fetchPackage() {
  if (!existsSync(join(root, 'node_modules', '@tensorflow', 'tfjs-core'))) {
    throw new Error(`@tensorflow/tfjs-core is not in ${join(root, 'node_modules')}: install it first`);
  }
  if (isProject()) record();
  else placeUnrecorded();
}

/** Makes the package an optional dependency of the project, with the project's own package manager. */
function record() {
  const wanted = `${name}@${tfjsVersion}`;
  const install = ['install', '--save-exact', '--ignore-scripts', '--no-audit', '--no-fund', wanted];
  // npm silently omits an optional dependency that it cannot download: a plain one comes first.
  if (usedManager() === 'npm') npm(install, root);
  const options = {
    npm: [...install, '--save-optional'],
    pnpm: ['add', '--save-optional', '--save-exact', '--ignore-scripts', wanted],
    yarn: ['add', '--optional', '--exact', '--ignore-scripts', wanted],
    bun: ['add', '--optional', '--exact', '--ignore-scripts', wanted],
  };
  const said = runManager(options);
  if (!existsSync(folder)) {
    forget();
    throw new Error(said);
  }
  say(`${name} is an optional dependency in package.json now`);
}

/** Removes it from package.json. */
function forget() {
  const options = { npm: ['uninstall', '--ignore-scripts', '--no-audit', '--no-fund', name] };
  for (const other of ['pnpm', 'yarn', 'bun']) options[other] = ['remove', name];
  runManager(options);
}

/** The package manager whose lock file the project has; npm if there is none. */
function usedManager() {
  const lockFiles = { pnpm: ['pnpm-lock.yaml'], yarn: ['yarn.lock'], bun: ['bun.lock', 'bun.lockb'] };
  return Object.keys(lockFiles).find((name) => lockFiles[name].some((file) => existsSync(join(root, file)))) ?? 'npm';
}

/** Runs the package manager with its own arguments. */
function runManager(options) {
  const manager = usedManager();
  return manager === 'npm' ? npm(options.npm, root) : run(manager, options[manager]);
}

/**
 * In a checkout of groupgrad, or without a package.json: puts the package into node_modules, with all its dependencies
 * in a nested node_modules, except those that tfjs must have one copy of and that are already installed. npm would not do
 * that: to npm, the package is an optional peer of groupgrad that was not requested; and installing it in another way would change the checkout's
 * package.json. The next `npm install` removes it.
 */
function placeUnrecorded() {
  const staging = mkdtempSync(join(root, 'node_modules', '.tensorflow-'));
  try {
    writeFileSync(join(staging, 'package.json'), JSON.stringify({ private: true }));
    npm(
      ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock', `${name}@${tfjsVersion}`],
      staging,
    );
    const modules = join(staging, 'node_modules');
    const fetched = join(modules, ...name.split('/'));
    for (const dependency of packagesIn(modules)) {
      const shared = dependency.startsWith('@tensorflow/') && existsSync(join(root, 'node_modules', dependency));
      if (dependency === name || shared || existsSync(join(fetched, 'node_modules', dependency))) continue;
      move(join(modules, dependency), join(fetched, 'node_modules', dependency));
    }
    rmSync(folder, { recursive: true, force: true });
    move(fetched, folder);
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
}

function packagesIn(modules) {
  return readdirSync(modules)
    .filter((entry) => !entry.startsWith('.'))
    .flatMap((entry) =>
      entry.startsWith('@') ? readdirSync(join(modules, entry)).map((sub) => `${entry}/${sub}`) : [entry],
    );
}

function move(from, to) {
  mkdirSync(dirname(to), { recursive: true });
  renameSync(from, to);
}

/** A PATH with node-pre-gyp, which builds the binding, and node-gyp where node-pre-gyp finds it. */
function buildEnvironment() {
  // pnpm stores a package next to its dependencies and links to it from here.
  const require = createRequire(join(realpathSync(folder), 'package.json'));
  const preGyp = dirname(require.resolve('@mapbox/node-pre-gyp/package.json'));
  const prefix = join(dirname(process.execPath), '..');
  const gyp = [
    attempt(() => createRequire(join(root, 'package.json')).resolve('node-gyp/bin/node-gyp.js')),
    join(prefix, 'lib', 'node_modules', 'npm', 'node_modules', 'node-gyp', 'bin', 'node-gyp.js'),
  ].find((path) => typeof path === 'string' && existsSync(path));
  // Node's own headers if they are installed next to it, so that node-gyp need not download them.
  const headers = existsSync(join(prefix, 'include', 'node', 'node_api.h')) ? { npm_config_nodedir: prefix } : {};
  return {
    preGyp: join(preGyp, 'bin', 'node-pre-gyp'),
    env: {
      PATH: `${join(preGyp, 'bin')}${delimiter}${process.env.PATH}`,
      ...(gyp && { npm_config_node_gyp: gyp }),
      ...headers,
    },
  };
}

function runOwnInstaller() {
  const { install } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).scripts;
  run('sh', ['-c', install], { cwd: folder, env: buildEnvironment().env });
}

/** The unpacked libraries and headers of TensorFlow's wheel: a folder with `tensorflow`, and for a GPU `nvidia`. */
function fetchWheel() {
  const package_ = flags.gpu || process.arch !== 'x64' ? 'tensorflow' : 'tensorflow-cpu';
  const caches = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'groupgrad');
  const site = join(caches, `${package_}-${tensorflowVersion}${flags.gpu ? '-cuda' : ''}`);
  if (existsSync(site)) return site;
  mkdirSync(caches, { recursive: true });
  const staging = mkdtempSync(join(caches, 'unpacking-'));
  const downloads = mkdtempSync(join(tmpdir(), 'groupgrad-wheel-'));
  const python = process.env.PYTHON || 'python3';
  const download = (...requirements) => {
    const options = ['--no-deps', '--only-binary', ':all:', '--retries', '1', '--timeout', '30', '--dest', downloads];
    run(python, ['-m', 'pip', 'download', ...options, ...requirements]);
    for (const wheel of readdirSync(downloads)) {
      run(python, ['-c', unpack, join(downloads, wheel), staging]);
      rmSync(join(downloads, wheel));
    }
  };
  try {
    download(`${package_}==${tensorflowVersion}`);
    // The libraries that TensorFlow opens on a GPU are an extra of its wheel.
    if (flags.gpu) download(...readFileSync(join(staging, 'requirements'), 'utf8').split('\n').filter(Boolean));
    renameSync(staging, site);
    return site;
  } finally {
    for (const left of [staging, downloads]) rmSync(left, { recursive: true, force: true });
  }
}

/** In Python, which can read zip files and metadata: libraries, C headers, and the requirements of the extra `and-cuda`. */
const unpack = `
import email, re, sys, zipfile
wheel, target = sys.argv[1:]
wanted = re.compile(r'tensorflow/lib[^/]*\\.so[^/]*$|tensorflow/include/(tensorflow/(c|core/platform)|tsl|xla/tsl)/|nvidia/.*/lib/')
with zipfile.ZipFile(wheel) as z:
    z.extractall(target, [n for n in z.namelist() if wanted.match(n)])
    metadata = next(n for n in z.namelist() if n.endswith('.dist-info/METADATA'))
    required = email.message_from_bytes(z.read(metadata)).get_all('Requires-Dist', [])
    with open(target + '/requirements', 'a') as f:
        f.write(''.join(r.split(';')[0].strip() + '\\n' for r in required if 'and-cuda' in r))
`;

/** Builds the binding from source against the wheel's libraries, placed where the package's own would be. */
function buildAgainst(site) {
  const deps = join(folder, 'deps');
  rmSync(deps, { recursive: true, force: true });
  rmSync(join(folder, 'lib'), { recursive: true, force: true });
  mkdirSync(join(deps, 'lib'), { recursive: true });
  const wheel = join(site, 'tensorflow');
  symlinkSync(join(wheel, 'include'), join(deps, 'include'));
  for (const [link, library] of [
    ['libtensorflow.so', 'libtensorflow_cc.so.2'],
    ['libtensorflow_cc.so.2', 'libtensorflow_cc.so.2'],
    ['libtensorflow_framework.so', 'libtensorflow_framework.so.2'],
    ['libtensorflow_framework.so.2', 'libtensorflow_framework.so.2'],
  ]) {
    symlinkSync(join(wheel, library), join(deps, 'lib', link));
  }
  // TensorFlow looks for NVIDIA's libraries next to the folder of its own.
  if (existsSync(join(site, 'nvidia'))) symlinkSync(join(site, 'nvidia'), join(deps, 'nvidia'));
  const [compiler, ...flags] = compileCommand(join(deps, 'lib'));
  run(compiler, flags);
  const { preGyp, env } = buildEnvironment();
  const LDFLAGS = [process.env.LDFLAGS, ...linkFlags].filter(Boolean).join(' ');
  run(process.execPath, [preGyp, 'install', '--build-from-source'], { cwd: folder, env: { ...env, LDFLAGS } });
}

const before = attempt(probe);
if (!(before instanceof Error)) {
  say(`${name} already works: ${before}`);
  process.exit(0);
}

const steps = [
  ...(flags.wheel ? [] : [['its own installer', runOwnInstaller]]),
  [`TensorFlow ${tensorflowVersion} from its wheel`, () => buildAgainst(fetchWheel())],
];
const failures = [];
const missing = !existsSync(join(folder, 'package.json'));
if (missing) {
  say(`fetching ${name} ${tfjsVersion}`);
  const fetched = attempt(fetchPackage);
  if (fetched instanceof Error) fail(`npm could not fetch ${name}:\n${fetched.message}`);
}
for (const [title, step] of steps) {
  say(`trying ${title}`);
  const result = attempt(() => {
    step();
    return probe();
  });
  if (!(result instanceof Error)) {
    say(`${name} works, by ${title}: ${result}`);
    process.exit(0);
  }
  failures.push(`${title}: ${result.message}`);
}
if (missing && isProject()) {
  const left = attempt(forget);
  if (left instanceof Error) failures.push(`${name} is still in package.json: ${left.message}`);
} else if (missing) rmSync(folder, { recursive: true, force: true });
fail(`${name} does not work.\n\n${failures.join('\n\n')}`);
