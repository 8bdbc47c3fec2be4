// Running commands and building the C++ programs of test/native with CMake, into build/native-tests.

import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

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

/** Everything that a command said, for messages. */
export function outputOf({ stdout, stderr, error, signal }: SpawnSyncReturns<string>): string {
  return [stdout, stderr, error?.message, signal && `ended by ${signal}`].filter(Boolean).join('\n');
}

export function exists(command: string): boolean {
  return run(command, ['--version']).status === 0;
}

/** A folder of its own for `body`, removed afterwards. */
export function withFolder<T>(body: (folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'groupgrad-'));
  try {
    return body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const compiler = process.env.CXX ?? ['c++', 'g++', 'clang++'].find(exists);

/** Why C++ cannot be built here, or false. With `sanitizers`: why not with these. */
export function cannotBuild(sanitizers?: string): string | false {
  if (!exists('cmake')) return 'cmake was not found';
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
    // ThreadSanitizer of older compilers cannot run under kernels that randomise more address bits.
    return ran.status !== 0 && `programs with the ${sanitizers} sanitizer do not run here: ${outputOf(ran)}`;
  });
}

/** Builds one of the programs of test/native and gives its path. The CUDA device is in it where `cuda` says so. */
export function buildProgram(name: string, { sanitizers = '', cuda = 'OFF' } = {}): string {
  const folder = join(root, 'build', 'native-tests', `${sanitizers.replace(',', '-') || 'plain'}-${cuda}`);
  mkdirSync(folder, { recursive: true });
  const generator = exists('ninja') ? ['-G', 'Ninja'] : [];
  const options = ['-DGROUPGRAD_NATIVE_TESTS=ON', `-DGROUPGRAD_SANITIZE=${sanitizers}`, `-DGROUPGRAD_CUDA=${cuda}`];
  for (const args of [
    ['-S', root, '-B', folder, ...generator, ...options],
    ['--build', folder, '--target', name],
  ]) {
    const result = run('cmake', args);
    if (result.status !== 0) throw new Error(`cmake ${args.join(' ')} failed:\n${outputOf(result)}`);
  }
  return join(folder, name);
}

let emulatedAddon: string | undefined;

/** Builds the addon with the CUDA device emulated on the processor, once a process, and gives its path. */
export function buildEmulatedAddon(): string {
  if (emulatedAddon) return emulatedAddon;
  const folder = join(root, 'build', 'emulated');
  for (const args of [
    ['-S', root, '-B', folder, '-DGROUPGRAD_CUDA=EMULATED'],
    ['--build', folder, '--parallel', String(availableParallelism())],
  ]) {
    const result = run('cmake', args);
    if (result.status !== 0) throw new Error(`cmake ${args.join(' ')} failed:\n${outputOf(result)}`);
  }
  emulatedAddon = join(folder, 'groupgrad.node');
  return emulatedAddon;
}
