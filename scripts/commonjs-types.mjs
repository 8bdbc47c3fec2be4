// Declarations for CommonJS projects: TypeScript treats those of dist as ES modules, which under `node16` a CommonJS file must
// not import, although Node itself can require them. It accepts the same declarations in a folder of type `commonjs`.
// Part of `npm run prepare`.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

const from = resolve(process.argv[2] ?? 'dist');
const to = join(from, 'commonjs');
const entries = ['index.d.ts', 'tfjs.d.ts', 'backend.d.ts'];

const waiting = entries.map((entry) => join(from, entry));
for (const file of waiting) {
  const text = readFileSync(file, 'utf8');
  const copy = join(to, file.slice(from.length));
  mkdirSync(dirname(copy), { recursive: true });
  writeFileSync(copy, text);
  for (const [, path] of text.matchAll(/(?:from |import\()['"](\.[^'"]+)\.js['"]/g)) {
    const next = resolve(dirname(file), `${path}.d.ts`);
    if (!waiting.includes(next)) waiting.push(next);
  }
}
writeFileSync(join(to, 'package.json'), '{ "type": "commonjs" }\n');
