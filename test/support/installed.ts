// A project in a temporary folder with the package installed as for a user: built from the current sources, with
// its dependencies, the named peers, and nothing else.

import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import packageJson from '../../package.json' with { type: 'json' };
import { loadAddon } from '../../src/devices/load.js';
import { platform } from '../../src/devices/places.js';
import { type Finished, runProgram } from './run-program.js';

export const root = fileURLToPath(new URL('../..', import.meta.url));

export interface Project {
  folder: string;
  write(name: string, text: string): string;
  /** Runs a Node program with these arguments in the folder. */
  node(...args: string[]): Finished;
  remove(): void;
}

/** `peers`: names in this checkout's node_modules. */
export function installedProject(peers: readonly string[]): Project {
  const folder = mkdtempSync(join(tmpdir(), 'groupgrad-project-'));
  const home = join(folder, 'node_modules', 'groupgrad');
  mkdirSync(home, { recursive: true });
  cpSync(join(root, 'package.json'), join(home, 'package.json'));
  // The runner has brought it up to date.
  cpSync(join(root, 'dist'), join(home, 'dist'), { recursive: true });
  const link = (from: string, to: string) => {
    mkdirSync(dirname(to), { recursive: true });
    symlinkSync(from, to);
  };
  // The addon at the package's own location, whichever this checkout has.
  const { addon, path } = loadAddon() as { addon: unknown; path?: string };
  if (addon) link(path!, join(home, 'prebuilds', platform, 'groupgrad.node'));
  for (const name of [...Object.keys(packageJson.dependencies), ...peers]) {
    link(join(root, 'node_modules', name), join(folder, 'node_modules', name));
  }
  return {
    folder,
    write: (name, text) => {
      const path = join(folder, name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, text);
      return path;
    },
    node: (...args) => runProgram(process.execPath, args, { cwd: folder }),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
