// npm's `prepare`: builds a checkout: dist/ always, and the addon after the dependencies were installed (`npm ci`). In an
// installed package, where `npm rebuild` and links run it too, it does nothing.
//
// GROUPGRAD_CUDA=ON builds the CUDA device, and fails if that is not possible. Without a compiler the checkout works on the
// slow reference device.

import { spawnSync } from 'node:child_process';
import { existsSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const at = (...path) => join(root, ...path);

/** Whether the current npm command needs the addon. */
function wantsAddon() {
  // `npm run prepare` only builds dist/; packing uses the prebuilt addon.
  if (['run', 'run-script', 'pack', 'publish'].includes(process.env.npm_command)) return false;
  // A clone that npm packs for another project: the addon would not be packed.
  return !process.env._PACOTE_NO_PREPARE_;
}

function node(args) {
  return spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' }).status ?? 1;
}

/** Builds into a temporary folder first: after an error the previous dist/ remains. */
function buildDist() {
  const compiler = at('node_modules', 'typescript', 'bin', 'tsc');
  if (!existsSync(compiler)) {
    console.error(
      'groupgrad: TypeScript is not installed; a checkout needs `npm ci` with its development dependencies',
    );
    return 1;
  }
  const fresh = at('build', `dist-${process.pid}`);
  const status =
    node([compiler, '-p', 'tsconfig.build.json', '--outDir', fresh]) ||
    node([at('scripts', 'commonjs-types.mjs'), fresh]);
  if (status === 0) {
    rmSync(at('dist'), { recursive: true, force: true });
    renameSync(fresh, at('dist'));
  }
  rmSync(fresh, { recursive: true, force: true });
  return status;
}

function buildAddon() {
  const status = node([at('dist', 'cli', 'main.js'), 'build']);
  if (status === 0 || process.env.GROUPGRAD_CUDA?.toUpperCase() === 'ON') return status;
  console.error(
    'groupgrad: the checkout works without the addon, on the slow reference device; run `npm run build:native` to try again',
  );
  return 0;
}

function prepare() {
  if (!existsSync(at('src'))) return 0;
  // `npx groupgrad` links the checkout into npm's cache, which runs `prepare` each time.
  const isBuilt = existsSync(at('dist', 'cli', 'main.js')) && existsSync(at('build', 'Release', 'groupgrad.node'));
  if (process.env.npm_command === 'exec' && isBuilt) return 0;
  return buildDist() || (wantsAddon() ? buildAddon() : 0);
}

process.exitCode = prepare();
