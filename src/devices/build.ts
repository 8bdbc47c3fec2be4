// Compiles the addon from the package's sources: with CMake (including the CUDA device on request; through cmake-js in a
// checkout), or without CMake with the node-gyp that comes with npm; and the addon for MPI. Used by `groupgrad build`, a
// checkout's own build and the prebuilt addons.

import { spawn } from 'node:child_process';
import { copyFileSync, cpSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { thisFile } from '../base/package-folder.js';
import { packageVersion } from '../base/version.js';
import { sourceFolder } from './places.js';
import { findCompiler, findNvcc, findProgram, missingTools } from './tools.js';

export interface BuildOptions {
  /** `auto`: with the CUDA device if nvcc is found, and without it if that build fails. */
  cuda: 'auto' | 'on' | 'off';
  /** Debug information, little optimisation. */
  debug?: boolean;
  /** Build folder. Files of an earlier build are reused. */
  folder: string;
  /** The output of scripts/glibc-stubs.mjs, for an addon that runs on older Linux. */
  glibcStubs?: string;
  /** Called with the current activity and its progress, 0 to 1. */
  onProgress?: (what: string, done: number) => void;
}

export interface Build {
  /** The addon within `folder`. */
  addon: string;
  /** libgroupgrad, the C interface for other languages, if the CUDA device was built. */
  library?: string;
  /** The tools it was built with. */
  tools: string;
  cuda: boolean;
  /** Failed earlier attempts. */
  failures: string[];
}

const require = createRequire(thisFile);
const libraryName = process.platform === 'darwin' ? 'libgroupgrad.dylib' : 'libgroupgrad.so';

/** @throws Error that says what is missing, or ends with the compiler's output. */
export async function buildAddon(options: BuildOptions): Promise<Build> {
  const { cuda } = options;
  const nvcc = cuda === 'off' ? undefined : findNvcc();
  const cmake = findProgram(['cmake']);
  const missing = missingTools();
  if (missing !== undefined) throw new Error(`to build the addon, install ${missing}`);
  if (cuda === 'on' && !nvcc) throw new Error('--cuda on: nvcc was not found; put it on PATH, or set CUDACXX');
  if (cuda === 'on' && !cmake)
    throw new Error('--cuda on: CMake was not found, and node-gyp builds only the CPU device');
  const ways = [
    ...(cmake && nvcc ? [{ tools: 'CMake and nvcc', cuda: true, run: () => runCMake(cmake, nvcc, options) }] : []),
    ...(cmake && cuda !== 'on'
      ? [{ tools: 'CMake', cuda: false, run: () => runCMake(cmake, undefined, options) }]
      : []),
    // node-gyp has no debug build and cannot link portably.
    ...(!cmake ? [{ tools: 'node-gyp', cuda: false, run: () => runNodeGyp(options) }] : []),
  ];
  const failures: string[] = [];
  for (const way of ways) {
    try {
      const addon = await way.run();
      await check(addon);
      const library = join(dirname(addon), libraryName);
      const tools = `${way.tools}, ${findCompiler()}`;
      return { addon, ...(way.cuda && { library }), tools, cuda: way.cuda, failures };
    } catch (error) {
      failures.push(`with ${way.tools}: ${(error as Error).message}`);
    }
  }
  throw new Error(`the addon could not be built ${failures.join('\n\n')}`);
}

/**
 * Compiles the addon for MPI (native/mpi) into a folder, by the compiler wrapper of an MPI library: MPICXX, or mpicxx.
 *
 * @returns the addon's path, and the wrapper's
 * @throws Error that says what is missing, or ends with the compiler's output
 */
export async function buildMpiAddon(folder: string): Promise<{ addon: string; compiler: string }> {
  const chosen = process.env.MPICXX?.trim().split(/\s+/) ?? [];
  const [name, ...flags] = chosen[0] ? chosen : ['mpicxx'];
  const compiler = findProgram([name]);
  if (!compiler) {
    const how = 'install MPI (Debian: libopenmpi-dev openmpi-bin), or set MPICXX to its compiler wrapper';
    throw new Error(`--mpi: ${name} was not found; ${how}`);
  }
  mkdirSync(folder, { recursive: true });
  const addon = join(folder, 'groupgrad-mpi.node');
  const macros = ['NAPI_VERSION=8', 'NODE_ADDON_API_CPP_EXCEPTIONS_ALL', `GROUPGRAD_VERSION="${packageVersion()}"`];
  const link = process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : [];
  await runTool(compiler, [
    ...flags,
    ...['-std=c++20', '-O2', '-Wall', '-Wextra', '-shared', '-fPIC', '-fvisibility=hidden', ...link],
    ...macros.map((macro) => `-D${macro}`),
    ...nodeHeaders().map((path) => `-I${path}`),
    join(sourceFolder(), 'native', 'mpi', 'addon.cpp'),
    ...['-o', addon],
  ]);
  await check(addon);
  return { addon, compiler };
}

/** Copies a built file to its destination; a process that has the old file open keeps it. */
export function deliver(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  const staged = `${to}.${process.pid}`;
  copyFileSync(from, staged);
  renameSync(staged, to);
}

/** CMake's settings that do not depend on the kind of build, as `NAME=value`. */
export function cmakeSettings(): string[] {
  return [`GROUPGRAD_NODE_HEADERS=${nodeHeaders().join(';')}`];
}

/** Folders of node_api.h and napi.h. */
function nodeHeaders(): string[] {
  const folderOf = (name: string) => dirname(require.resolve(`${name}/package.json`)).replaceAll('\\', '/');
  return [`${folderOf('node-api-headers')}/include`, folderOf('node-addon-api')];
}

async function runCMake(
  cmake: string,
  nvcc: string | undefined,
  { folder, debug = false, glibcStubs = '', onProgress }: BuildOptions,
): Promise<string> {
  const type = debug ? 'Debug' : 'Release';
  const settings = [
    ...cmakeSettings(),
    `GROUPGRAD_CUDA=${nvcc ? 'ON' : 'OFF'}`,
    `GROUPGRAD_GLIBC_STUBS=${glibcStubs}`,
    `CMAKE_BUILD_TYPE=${type}`,
  ];
  const env = nvcc ? { CUDACXX: nvcc } : {};
  const cmakeJs = resolveQuietly('cmake-js/bin/cmake-js');
  const [configure, build] = cmakeJs
    ? cmakeJsCommands(cmakeJs, folder, type, settings)
    : cmakeCommands(cmake, folder, type, settings);
  onProgress?.('configuring', 0);
  try {
    await runTool(...configure, { env });
  } catch (error) {
    // A folder that was moved, or whose compiler is gone, prevents CMake from configuring again.
    if (!existsSync(join(folder, 'CMakeCache.txt'))) throw error;
    rmSync(join(folder, 'CMakeCache.txt'));
    rmSync(join(folder, 'CMakeFiles'), { recursive: true, force: true });
    await runTool(...configure, { env });
  }
  await runTool(...build, { env, onProgress });
  return join(folder, 'groupgrad.node');
}

type Command = [program: string, args: string[]];

/** Arguments to configure and to build. */
type Commands = [configure: Command, build: Command];

function cmakeCommands(cmake: string, folder: string, type: string, settings: readonly string[]): Commands {
  // In a folder that has been configured, the generator must not change.
  const ninja = !existsSync(join(folder, 'CMakeCache.txt')) && findProgram(['ninja']) ? ['-G', 'Ninja'] : [];
  const given = settings.map((setting) => `-D${setting}`);
  return [
    [cmake, ['-S', sourceFolder(), '-B', folder, ...ninja, ...given]],
    [cmake, ['--build', folder, '--config', type, ...parallel()]],
  ];
}

/** cmake-js chooses the generator itself. */
function cmakeJsCommands(script: string, folder: string, type: string, settings: readonly string[]): Commands {
  const common = ['--directory', sourceFolder(), '--out', folder, '--config', type];
  const given = settings.map((setting) => `--CD${setting}`);
  const command = (name: string): Command => [process.execPath, [script, name, ...common, ...given, ...parallel()]];
  return [command('configure'), command('build')];
}

function parallel(): string[] {
  return process.env.CMAKE_BUILD_PARALLEL_LEVEL ? [] : ['--parallel', String(availableParallelism())];
}

/** node-gyp builds in the source folder, so the sources are copied. */
async function runNodeGyp({ folder, onProgress }: BuildOptions): Promise<string> {
  const besideNode = join(dirname(process.execPath), '..');
  const program = [
    process.env.npm_config_node_gyp,
    resolveQuietly('node-gyp/bin/node-gyp.js'),
    join(besideNode, 'lib', 'node_modules', 'npm', 'node_modules', 'node-gyp', 'bin', 'node-gyp.js'),
  ].find((path) => path !== undefined && existsSync(path));
  if (!program) throw new Error('neither CMake nor node-gyp was found; install CMake');
  mkdirSync(folder, { recursive: true });
  for (const name of ['native', 'package.json'])
    cpSync(join(sourceFolder(), name), join(folder, name), { recursive: true });
  writeFileSync(join(folder, 'binding.gyp'), "{ 'includes': [ 'native/groupgrad.gypi' ] }\n");
  // Node's own headers if they are installed next to it, so that node-gyp need not download them.
  const hasHeaders = existsSync(join(besideNode, 'include', 'node', 'node_api.h'));
  const headers = hasHeaders && !process.env.npm_config_nodedir ? [`--nodedir=${besideNode}`] : [];
  const env = { NODE_PATH: dirname(dirname(require.resolve('node-addon-api/package.json'))) };
  onProgress?.('compiling', 0);
  await runTool(process.execPath, [program, 'rebuild', ...headers], { cwd: folder, env });
  return join(folder, 'build', 'Release', 'groupgrad.node');
}

function resolveQuietly(name: string): string | undefined {
  try {
    return require.resolve(name);
  } catch {
    return undefined;
  }
}

/** Loads the addon in a separate process, so that a broken one cannot crash this one. */
async function check(addon: string): Promise<void> {
  const said = await runTool(process.execPath, ['-p', `require(${JSON.stringify(addon)}).version`]);
  if (said.trim() !== packageVersion()) {
    throw new Error(`expected the addon to have version ${packageVersion()}, got ${said.trim()}`);
  }
}

interface RunOptions extends Pick<BuildOptions, 'onProgress'> {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
}

/** Returns the program's standard output; Error with the end of its output if it fails. */
function runTool(program: string, args: readonly string[], { cwd, env, onProgress }: RunOptions = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    // npm's variables for its own children, such as a silent log level, must not reach these programs.
    const { npm_config_loglevel: _, ...inherited } = process.env;
    const child = spawn(program, args, { cwd, env: { ...inherited, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      output += text;
      // As reported by ninja ([3/40]) and make ([ 7%]).
      const counts = [...text.matchAll(/^\[ *(\d+)(?:%|\/(\d+))\]/gm)].at(-1);
      if (counts) onProgress?.('compiling', Number(counts[1]) / Number(counts[2] ?? 100));
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    child.on('error', reject);
    child.on('close', (status, signal) => {
      if (status === 0) return resolve(said);
      const end = output.trim().split('\n').slice(-25).join('\n');
      reject(new Error(`${program} ${args[0]} ended with ${signal ?? `exit code ${status}`}\n${end}`));
    });
  });
}
