// The hooks that typescript.mjs registers: they find the TypeScript that a specifier names, and load what it was compiled to.

import { existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join, relative, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const home = pathToFileURL(join(root, sep)).href;
/** Where typescript.mjs puts what it compiled, and how: Node 20 knows all that the sources are written in. */
const compiled = join(root, 'build', 'typescript');
const target = { format: 'esm', target: 'node20', sourcemap: 'inline', sourcesContent: false };

/** The package by its own names is the checkout's sources, as `paths` in tsconfig.json has it. */
const sources = new Map(
  Object.entries(JSON.parse(readFileSync(join(root, 'tsconfig.json'), 'utf8')).compilerOptions.paths).map(
    ([name, [path]]) => [name, new URL(path, home).href],
  ),
);

export function resolve(specifier, context, next) {
  const source = sources.get(specifier);
  if (source) return { url: source, format: 'module', shortCircuit: true };
  if (/^\.{1,2}\/.*\.js$/.test(specifier) && !context.parentURL.includes('/node_modules/')) {
    const url = new URL(`${specifier.slice(0, -3)}.ts`, context.parentURL);
    if (existsSync(url)) return { url: url.href, format: 'module', shortCircuit: true };
  }
  return next(specifier, context);
}

/** The names that tfjs-core exports: to find them, Node would read its million characters in every process that imports it. */
function namesOfTfjs(path) {
  const names = join(compiled, 'tfjs-core.json');
  if (!isNewer(names, path)) {
    const found = Object.keys(createRequire(path)(path)).filter((name) => name !== 'default');
    writeWhole(names, JSON.stringify(found));
  }
  return JSON.parse(readFileSync(names, 'utf8'));
}

function tfjsModule(path) {
  const place = JSON.stringify(path);
  return `import { createRequire } from 'node:module';
    const tfjs = createRequire(${place})(${place});
    export default tfjs;
    export const { ${namesOfTfjs(path).join(', ')} } = tfjs;`;
}

export async function load(url, context, next) {
  if (url.endsWith('/tfjs-core/dist/tf-core.node.js')) {
    return { format: 'module', source: tfjsModule(fileURLToPath(url)), shortCircuit: true };
  }
  if (url.endsWith('.json') && context.importAttributes.type === undefined) {
    // Node 20 would warn of the import attribute, which esbuild leaves out.
    return {
      format: 'module',
      source: `export default ${readFileSync(fileURLToPath(url), 'utf8')}`,
      shortCircuit: true,
    };
  }
  if (!url.endsWith('.ts')) return next(url, context);
  const path = fileURLToPath(url);
  const source = isCompiled(path) ? readFileSync(placeOf(path), 'utf8') : await compile(path);
  return { format: 'module', source, shortCircuit: true };
}

/** Others may be reading there meanwhile. */
export function writeWhole(path, text) {
  const fresh = `${path}.${process.pid}`;
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(fresh, text);
  renameSync(fresh, path);
}

/** Where a source is, once compiled. */
export const placeOf = (path) => join(compiled, relative(root, path)).replace(/\.ts$/, '.js');

const ownTime = statSync(fileURLToPath(import.meta.url)).mtimeMs;

/** Whether a source of the checkout was compiled as it is now, and by this file. */
export const isCompiled = (path) => path.startsWith(root + sep) && isNewer(placeOf(path), path);

function isNewer(made, source) {
  return statSync(made, { throwIfNoEntry: false })?.mtimeMs > Math.max(statSync(source).mtimeMs, ownTime);
}

export async function compile(path) {
  const { transform } = await import('esbuild');
  // A source map's paths count from the module, which keeps its place.
  return (await transform(readFileSync(path, 'utf8'), { ...target, loader: 'ts', sourcefile: basename(path) })).code;
}
