// Commands for the user's project: messages about missing packages use the project's own package manager.

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const managers = {
  npm: { lockFiles: ['package-lock.json', 'npm-shrinkwrap.json'], add: 'npm install', run: 'npx' },
  pnpm: { lockFiles: ['pnpm-lock.yaml'], add: 'pnpm add', run: 'pnpm exec' },
  yarn: { lockFiles: ['yarn.lock'], add: 'yarn add', run: 'yarn' },
  bun: { lockFiles: ['bun.lock', 'bun.lockb'], add: 'bun add', run: 'bunx' },
} as const;

export type PackageManager = keyof typeof managers;
const names = Object.keys(managers) as PackageManager[];

/**
 * The package manager of the project that `folder` is in: the one that runs this process, unless that is npm (npx works in
 * every project); else the one named by `packageManager` in the nearest package.json, or by a lock file next to or above it; else
 * npm.
 */
export function packageManager(folder: string = process.cwd()): PackageManager {
  const agent = find(process.env.npm_config_user_agent);
  if (agent !== undefined && agent !== 'npm') return agent;
  for (let at = folder; ; at = dirname(at)) {
    const found = find(declared(join(at, 'package.json'))) ?? names.find((name) => hasLockFile(at, name));
    if (found !== undefined) return found;
    if (dirname(at) === at) return 'npm';
  }
}

/** The command that adds packages to the project. */
export function addCommand(packages: readonly string[], manager: PackageManager = packageManager()): string {
  return `${managers[manager].add} ${packages.join(' ')}`;
}

/** The command that runs a program of an installed package, as `groupgrad doctor`. */
export function runCommand(program: string, manager: PackageManager = packageManager()): string {
  return `${managers[manager].run} ${program}`;
}

/** Of `pnpm/10.1.0 npm/? node/v22 …` or `pnpm@10.1.0`. */
function find(text: string | undefined): PackageManager | undefined {
  return names.find((name) => new RegExp(`^${name}[/@]`).test(text ?? ''));
}

function hasLockFile(folder: string, name: PackageManager): boolean {
  return managers[name].lockFiles.some((file) => existsSync(join(folder, file)));
}

function declared(file: string): string | undefined {
  try {
    const { packageManager: value } = JSON.parse(readFileSync(file, 'utf8')) as { packageManager?: unknown };
    return typeof value === 'string' ? value : undefined;
  } catch {
    return undefined; // no readable package.json here; a lock file may tell
  }
}
