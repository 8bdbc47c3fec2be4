// Writes libraries to link with instead of glibc's: the same names, each only in its newest version that is not newer than
// the requested glibc. An addon linked with them requires no newer one, wherever it was built. The linker reports functions that
// glibc did not have then as missing (native/portable/glibc.cpp defines those that the compiler's runtime needs).
//
//   node scripts/glibc-stubs.mjs <folder> <version, such as 2.17>
//
// Needs a C compiler for Linux with glibc, and readelf.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [folder, floor] = process.argv.slice(2);
if (!folder || !/^2\.\d+$/.test(floor ?? '')) {
  console.error('usage: node scripts/glibc-stubs.mjs <folder> <version of glibc, such as 2.17>');
  process.exit(2);
}
const compiler = process.env.CC ?? 'cc';
const systemFile = (name) => execFileSync(compiler, [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();
const isNotNewer = (version) => compareVersions(version, floor) <= 0;

mkdirSync(folder, { recursive: true });
const libc = writeStub('libc.so.6');
// The system's linker script, which names further files that belong to it, with the stub in place of the library.
const script = readFileSync(systemFile('libc.so'), 'utf8');
if (!/\S*libc\.so\.6/.test(script)) throw new Error(`${systemFile('libc.so')} is not a linker script of glibc`);
writeFileSync(join(folder, 'libc.so'), script.replace(/\S*libc\.so\.6/, libc));
writeFileSync(join(folder, 'libm.so'), `GROUP ( ${writeStub('libm.so.6')} )\n`);
// Before 2.34 these were separate libraries: the addon refers to them by name.
for (const library of ['libdl.so.2', 'libpthread.so.0', 'librt.so.1']) compile(library, [], join(folder, library));

function writeStub(library) {
  const path = join(folder, library);
  compile(library, oldSymbols(systemFile(library)), path);
  return path;
}

/** For each name the newest version that is old enough. */
function oldSymbols(library) {
  const table = execFileSync('readelf', ['--wide', '--dyn-syms', library], { encoding: 'utf8', maxBuffer: 1 << 26 });
  const chosen = new Map();
  for (const line of table.split('\n')) {
    const [, , size, type, , , section, full] = line.trim().split(/\s+/);
    const [, name, version] = /^(\w+)@@?GLIBC_([\d.]+)$/.exec(full ?? '') ?? [];
    if (!name || section === 'UND' || section === 'ABS' || type === 'TLS' || !isNotNewer(version)) continue;
    const before = chosen.get(name);
    if (!before || compareVersions(version, before.version) > 0) {
      chosen.set(name, { name, version, isObject: type === 'OBJECT', size: Number(size) });
    }
  }
  return [...chosen.values()];
}

function compareVersions(a, b) {
  const [left, right] = [a, b].map((version) => version.split('.').map(Number));
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function compile(name, symbols, path) {
  const source = symbols.map(({ name, isObject, size }) =>
    isObject
      ? `.data\n.globl ${name}\n.type ${name}, %object\n.size ${name}, ${size}\n${name}: .zero ${Math.max(1, size)}`
      : `.text\n.globl ${name}\n.type ${name}, %function\n${name}: .long 0`,
  );
  const versions = [...new Set(symbols.map(({ version }) => version))];
  const nodes = versions.map((version) => {
    const names = symbols.filter((symbol) => symbol.version === version).map((symbol) => `${symbol.name};`);
    return `GLIBC_${version} { global: ${names.join(' ')} };`;
  });
  writeFileSync(`${path}.s`, `${source.join('\n')}\n.section .note.GNU-stack,"",%progbits\n`);
  writeFileSync(`${path}.map`, `${nodes.join('\n')}\n`);
  const script = symbols.length > 0 ? [`-Wl,--version-script=${path}.map`] : [];
  const options = ['-shared', '-nostdlib', `-Wl,-soname,${name}`, ...script];
  execFileSync(compiler, [...options, '-o', path, `${path}.s`], { stdio: ['ignore', 'inherit', 'inherit'] });
}
