// The rooms of src/ and their order, stated in CONTRIBUTING's table: a room imports only from rooms above it there, so
// that there are no cycles between rooms; and no file imports itself indirectly. Types count like values.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix, sep } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** The files that each file imports, by paths within src. */
type Imports = ReadonlyMap<string, readonly string[]>;

/** Specifiers of a module's own imports: static, for side effects, of types, dynamic; and re-exports. */
function specifiers(text: string): string[] {
  const forms = /\b(?:from|import|require)\s*\(?\s*(['"`])(\.[^'"`]*)\1/g;
  return Array.from(text.matchAll(forms), ([, , specifier]) => specifier);
}

function readImports(): Imports {
  const files = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .map((path) => path.split(sep).join('/'))
    .filter((path) => path.endsWith('.ts'));
  return new Map(
    files.map((file) => {
      const text = readFileSync(join(root, 'src', file), 'utf8');
      const imported = specifiers(text)
        .map((specifier) => posix.join(posix.dirname(file), specifier).replace(/\.js$/, '.ts'))
        .filter((path) => path !== '../package.json');
      return [file, imported] as const;
    }),
  );
}

/** From the room that imports nothing to the one that may import all others. */
function readOrder(): string[] {
  const text = readFileSync(join(root, 'CONTRIBUTING.md'), 'utf8');
  return Array.from(text.matchAll(/^\| `src\/([^`]*)\/` \|/gm), ([, room]) => room);
}

/** The room of a file; the entries next to the rooms may import all of them and are imported by none. */
function place(file: string, order: readonly string[]): number {
  const room = file.split('/')[0];
  if (room === file) return order.length;
  assert.ok(order.includes(room), `src/${room}/ is not in CONTRIBUTING's table`);
  return order.indexOf(room);
}

/** Imports that violate the order. */
function upward(imports: Imports, order: readonly string[]): string[] {
  return Array.from(imports).flatMap(([file, imported]) =>
    imported.filter((other) => place(other, order) > place(file, order)).map((other) => `${file} imports ${other}`),
  );
}

/** A cycle of imports: its files, with the first one repeated at the end. */
function findCircle(imports: Imports): string[] | undefined {
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): string[] | undefined => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return undefined;
    for (const other of imports.get(file) ?? []) {
      const circle = visit(other, [...path, file]);
      if (circle) return circle;
    }
    done.add(file);
    return undefined;
  };
  for (const file of imports.keys()) {
    const circle = visit(file, []);
    if (circle) return circle;
  }
  return undefined;
}

describe('the rooms of src/', () => {
  const imports = readImports();
  const order = readOrder();

  test("CONTRIBUTING's table lists exactly the existing rooms", () => {
    const rooms = new Set(Array.from(imports.keys(), dirname).filter((folder) => folder !== '.'));
    assert.deepEqual([...order].sort(), [...new Set(Array.from(rooms, (folder) => folder.split('/')[0]))].sort());
  });

  test('imports are of files that exist', () => {
    const missing = Array.from(imports).flatMap(([file, imported]) =>
      imported.filter((other) => !imports.has(other)).map((other) => `${file} imports ${other}`),
    );
    assert.deepEqual(missing, []);
  });

  test('none imports from a later room, so there are no cycles of rooms', () => {
    assert.deepEqual(upward(imports, order), []);
  });

  test('no file imports itself indirectly', () => {
    assert.equal(findCircle(imports)?.join(' -> '), undefined);
  });
});

describe('the test of the rooms finds', () => {
  test('every form of import', () => {
    const text = [
      "import { a } from './a.js';",
      "import type { B } from '../b/b.js';",
      "import {\n  type C,\n  d,\n} from './c.js';",
      "import './d.js';",
      "export { e } from './e.js';",
      "export * from './f.js';",
      "const g = await import('./g.js');",
      "type H = typeof import('./h.js');",
      "import fs from 'node:fs';",
    ];
    const found = ['./a.js', '../b/b.js', './c.js', './d.js', './e.js', './f.js', './g.js', './h.js'];
    assert.deepEqual(specifiers(text.join('\n')), found);
  });

  test('an import against the order, and an import of an entry', () => {
    const imports = new Map([
      ['low/a.ts', ['high/b.ts', 'low/c.ts']],
      ['low/c.ts', ['index.ts']],
      ['high/b.ts', ['low/c.ts']],
      ['index.ts', ['high/b.ts', 'low/a.ts']],
    ]);
    const found = ['low/a.ts imports high/b.ts', 'low/c.ts imports index.ts'];
    assert.deepEqual(upward(imports, ['low', 'high']), found);
  });

  test('a cycle of files', () => {
    const imports = new Map([
      ['a/start.ts', ['a/one.ts']],
      ['a/one.ts', ['a/end.ts', 'a/two.ts']],
      ['a/end.ts', []],
      ['a/two.ts', ['a/three.ts']],
      ['a/three.ts', ['a/one.ts']],
    ]);
    assert.deepEqual(findCircle(imports), ['a/one.ts', 'a/two.ts', 'a/three.ts', 'a/one.ts']);
    assert.equal(findCircle(new Map([...imports, ['a/three.ts', ['a/end.ts']]])), undefined);
  });
});
