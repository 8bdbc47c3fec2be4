// Where this code is, and where the package's own folder is, which holds the addon. In a bundle these differ.

import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, extname, join, parse } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The file that this code runs from. A bundle in CommonJS has no `import.meta.url`; its `__filename` is the bundle's. */
export const thisFile: string = fileOf(import.meta.url);

function fileOf(url: string | undefined): string {
  return url ? fileURLToPath(url) : __filename;
}

/**
 * The folder of the checkout or of the installed package: one of those around this file or, for a bundle, the one that Node
 * resolves by name from there. undefined if there is none, as on a machine that has only the bundle.
 */
export function packageFolder(): string | undefined {
  for (let folder = dirname(thisFile); ; folder = dirname(folder)) {
    if (holdsPackage(folder)) return folder;
    if (folder === dirname(folder)) break;
  }
  try {
    return dirname(createRequire(thisFile).resolve('groupgrad/package.json'));
  } catch {
    return undefined;
  }
}

/**
 * The file of one of this package's modules, by its path without extension: `verify/worker`. For modules that run in a separate
 * thread or process, or are loaded by name. A bundle uses the installed package's. Error if there is none.
 */
export function moduleFile(path: string): string {
  // A bundle has another name.
  if (parse(thisFile).name === 'package-folder') return join(dirname(thisFile), '..', path + extname(thisFile));
  const folder = packageFolder();
  if (folder === undefined) {
    throw new Error(
      `${path}.js: expected the package groupgrad to be installed around the bundle ${thisFile}, found none. Install it there, or mark groupgrad as external`,
    );
  }
  return join(folder, 'dist', `${path}.js`);
}

function holdsPackage(folder: string): boolean {
  const file = join(folder, 'package.json');
  return existsSync(file) && (JSON.parse(readFileSync(file, 'utf8')) as { name?: unknown }).name === 'groupgrad';
}
