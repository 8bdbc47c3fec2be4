// Preloaded with --import, lets a process of the tests load the checkout's TypeScript, from what `compileAll` has made of it in
// build/typescript: tsx, which does the same, takes a third of a second of processor time to start, and the tests start some
// three hundred processes. A file that has changed since is compiled when it is loaded.

import fs, { readdirSync } from 'node:fs';
import { register, syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { compile, isCompiled, placeOf, root, writeWhole } from './typescript-hooks.mjs';

process.setSourceMapsEnabled(true);
// Tests kill processes, never the machine, and what a process wrote outlives it: only a machine that fails needs the disk to be
// waited for, and runs that save at every step would spend most of their time on it.
fs.fsyncSync = () => {};
syncBuiltinESMExports();
register('./typescript-hooks.mjs', import.meta.url);

/** Compiles what is new in folders of the checkout, for the processes that follow. */
export async function compileAll(folders) {
  const stale = folders
    .flatMap((folder) => readdirSync(join(root, folder), { recursive: true }).map((file) => join(root, folder, file)))
    .filter((file) => file.endsWith('.ts') && !isCompiled(file));
  await Promise.all(stale.map(async (file) => writeWhole(placeOf(file), await compile(file))));
}
