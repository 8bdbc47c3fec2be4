// The programs available to build the addon. Looked up on PATH, not run, because error messages use them too.

import { existsSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** The path of the first of these programs that is found; undefined if none is. */
export function findProgram(names: readonly string[]): string | undefined {
  const suffixes = process.platform === 'win32' ? ['.exe', '.cmd', '.bat'] : [''];
  for (const name of names) {
    if (name.includes('/') && isFile(name)) return name;
    for (const folder of (process.env.PATH ?? '').split(delimiter)) {
      const path = suffixes.map((suffix) => join(folder, name + suffix)).find(isFile);
      if (folder !== '' && path !== undefined) return path;
    }
  }
  return undefined;
}

/** The C++ compiler that CMake would use. */
export function findCompiler(): string | undefined {
  // CXX may also contain flags.
  const chosen = process.env.CXX?.trim().split(/\s+/)[0];
  return findProgram(chosen ? [chosen] : ['c++', 'g++', 'clang++', 'cl']);
}

/** nvcc: CUDACXX, on PATH, or in the toolkit's default location. */
export function findNvcc(): string | undefined {
  return findProgram(process.env.CUDACXX ? [process.env.CUDACXX] : ['nvcc', '/usr/local/cuda/bin/nvcc']);
}

/** What must be installed before the addon can be built; undefined if nothing is missing. */
export function missingTools(): string | undefined {
  const missing: string[] = [];
  if (!findCompiler()) missing.push('a C++20 compiler (g++ 12 or clang 15, or newer)');
  const byCMake = findProgram(['cmake']) && findProgram(['ninja', 'make']);
  const byGyp = findProgram(['make']) && findProgram(['python3']);
  if (process.platform !== 'win32' && !byCMake && !byGyp) missing.push('CMake with make (or make and Python 3)');
  if (process.platform === 'win32' && !findProgram(['cmake'])) missing.push('CMake');
  return missing.length > 0 ? missing.join(' and ') : undefined;
}

function isFile(path: string): boolean {
  return existsSync(path) && statSync(path).isFile();
}
