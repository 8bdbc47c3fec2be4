// Where this code stands, and where the package's own folder is, which holds the addon. In a bundle they are two places.

import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The file that this code runs from. A bundle in CommonJS has no `import.meta.url`; its `__filename` is the bundle's. */
export const thisFile: string = fileOf(import.meta.url);

function fileOf(url: string | undefined): string {
  return url ? fileURLToPath(url) : __filename;
}

/**
 * The folder of the checkout or of the installed package: one of those around this file or, for a bundle, the one that Node
 * finds by name from there. undefined where there is none, as on a machine that was given the bundle alone.
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

function holdsPackage(folder: string): boolean {
  const file = join(folder, 'package.json');
  return existsSync(file) && (JSON.parse(readFileSync(file, 'utf8')) as { name?: unknown }).name === 'groupgrad';
}
