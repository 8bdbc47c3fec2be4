// Runs commands, and builds the C++ programs of test/native and the emulated CUDA device with CMake.

import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** Flags of a process of Node's that loads the checkout's TypeScript, as the processes of test files do. */
export const typescript = ['--import', new URL('../../scripts/typescript.mjs', import.meta.url).href];

export interface RunOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** Seconds. */
  timeout?: number;
}

export function run(command: string, args: readonly string[], options: RunOptions = {}): SpawnSyncReturns<string> {
  const { cwd = root, env = process.env, timeout = 600 } = options;
  return spawnSync(command, args, { cwd, env, timeout: 1000 * timeout, encoding: 'utf8', maxBuffer: 1 << 28 });
}

/** The complete output of a command, for messages. */
export function outputOf({ stdout, stderr, error, signal }: SpawnSyncReturns<string>): string {
  return [stdout, stderr, error?.message, signal && `ended by ${signal}`].filter(Boolean).join('\n');
}

export function exists(command: string): boolean {
  return run(command, ['--version']).status === 0;
}

/** Calls `body` with a new folder, which is removed afterwards. */
export function withFolder<T>(body: (folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'groupgrad-'));
  try {
    return body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Why C++ cannot be built here, or false. With `sanitizers`: why not with these. */
export function cannotBuild(sanitizers?: string): string | false {
  if (!exists('cmake')) return 'cmake was not found';
  const compiler = process.env.CXX ?? ['c++', 'g++', 'clang++'].find(exists);
  if (!compiler || !exists(compiler)) return 'no C++ compiler was found';
  if (!exists('ninja') && !exists('make')) return 'neither ninja nor make was found';
  if (!sanitizers) return false;
  return withFolder((folder) => {
    const source = join(folder, 'empty.cpp');
    writeFileSync(source, 'int main() {}\n');
    const program = join(folder, 'empty');
    const built = run(compiler, [`-fsanitize=${sanitizers}`, source, '-o', program]);
    if (built.status !== 0) return `the compiler has no ${sanitizers} sanitizer here`;
    const ran = run(program, []);
    // Older compilers' ThreadSanitizer cannot run under kernels that randomise more address bits.
    return ran.status !== 0 && `programs with the ${sanitizers} sanitizer do not run here: ${outputOf(ran)}`;
  });
}

/**
 * Builds CMake targets in a folder of build/, one process at a time: several test files build the emulated device, and two
 * concurrent builds in one folder would corrupt each other's files.
 */
function build(folder: string, options: readonly string[], targets: readonly string[]): void {
  mkdirSync(folder, { recursive: true });
  const release = holdLock(`${folder}.lock`);
  try {
    const generator = exists('ninja') ? ['-G', 'Ninja'] : [];
    for (const args of [
      ['-S', root, '-B', folder, ...generator, '-DGROUPGRAD_NATIVE_TESTS=ON', ...options],
      ['--build', folder, '--parallel', String(availableParallelism()), '--target', ...targets],
    ]) {
      const result = run('cmake', args);
      if (result.status !== 0) throw new Error(`cmake ${args.join(' ')} failed:\n${outputOf(result)}`);
    }
  } finally {
    release();
  }
}

/** Waits until no other process holds the lock, a file with the holder's process id. Returns a function that releases it. */
function holdLock(path: string): () => void {
  for (;;) {
    try {
      writeFileSync(path, String(process.pid), { flag: 'wx' });
      return () => rmSync(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    if (isAbandoned(path)) rmSync(path, { force: true });
    else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  }
}

/** Whether the process that took a lock has ended without releasing it. */
function isAbandoned(path: string): boolean {
  try {
    const holder = Number(readFileSync(path, 'utf8'));
    // Empty: it is being written.
    if (holder > 0) process.kill(holder, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

/** Build folder of the emulated CUDA device: the addon, the C library and the programs share their object files. */
const emulated = join(root, 'build', 'emulated');
const emulation = ['-DGROUPGRAD_CUDA=EMULATED'];

/** Builds one of the programs of test/native and returns its path; with `isEmulated`, also for the emulated CUDA device. */
export function buildProgram(name: string, { sanitizers = '', isEmulated = false } = {}): string {
  const kind = sanitizers.replace(',', '-') || 'plain';
  const folder = isEmulated ? emulated : join(root, 'build', 'native-tests', kind);
  build(folder, isEmulated ? emulation : ['-DGROUPGRAD_CUDA=OFF', `-DGROUPGRAD_SANITIZE=${sanitizers}`], [name]);
  return join(folder, name);
}

let emulatedAddon: string | undefined;

/** Builds the addon with the CUDA device emulated on the processor, once per process, and returns its path. */
export function buildEmulatedAddon(): string {
  if (emulatedAddon) return emulatedAddon;
  build(emulated, emulation, ['groupgrad', 'groupgrad_c']);
  emulatedAddon = join(emulated, 'groupgrad.node');
  return emulatedAddon;
}
