// Every TypeScript block of README.md and docs/*.md compiles in a user's project: under node16, nodenext and bundler, as ES
// module and as CommonJS, with strict and exactOptionalPropertyTypes; and the declarations are checked in full.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import test, { after, before, describe } from 'node:test';
import { installedProject, type Project, root } from '../support/installed.js';
import { runProgram } from '../support/run-program.js';
import { slowSet } from '../support/sets.js';
import { type Snippet, snippets } from '../support/snippets.js';

const strict = {
  strict: true,
  exactOptionalPropertyTypes: true,
  verbatimModuleSyntax: false,
  noEmit: true,
  target: 'ES2022',
  lib: ['ES2023', 'ESNext.Disposable'],
  types: ['node'],
};
const modes = {
  node16: { module: 'node16', moduleResolution: 'node16' },
  nodenext: { module: 'nodenext', moduleResolution: 'nodenext' },
  bundler: { module: 'esnext', moduleResolution: 'bundler' },
};

/** Names that snippets use and that the page explains in words. */
const given = `
  declare const B: number, T: number, V: number, D: number;
  declare const logits: Float32Array, logProbs: Float32Array, oldLogProbs: Float32Array, refLogProbs: Float32Array;
  declare const hidden: Float32Array, unembedding: Float32Array;
  declare const rewards: Float32Array, advantages: Float32Array, tokens: Int32Array, mask: Uint8Array, values: Uint16Array;
  declare const shape: { sequences: number; length: number; vocab: number };
  // It is large, and need not be installed here; it exports what tfjs-core does, and more.
  declare module '@tensorflow/tfjs-node' {
    export * from '@tensorflow/tfjs-core';
  }
`;

const typescript = snippets().filter(({ language }) => language === 'ts');

function nameOf({ file, line }: Snippet): string {
  return `${file.replace(/\W+/g, '-')}-${line}`;
}

/** The statements within a function, because CommonJS has no await outside of one; imports and exports stay where they are. */
function asCommonJs(code: string): string {
  if (!/\bawait\b/.test(code) || /^export /m.test(code)) return code;
  const imports = code.match(/^import [^;]+;$/gm) ?? [];
  const rest = imports.reduce((text, statement) => text.replace(statement, ''), code);
  return `${imports.join('\n')}\nexport async function main() {\n${rest}\n}\n`;
}

describe('in a strict project', () => {
  let project: Project;
  before(() => {
    project = installedProject([
      '@tensorflow/tfjs-core',
      '@tensorflow/tfjs-backend-wasm',
      '@tensorflow/tfjs-backend-cpu',
      '@types/node',
      'undici-types',
    ]);
    project.write('given.d.ts', given);
    project.write('package.json', JSON.stringify({ type: 'module' }));
    for (const snippet of typescript) {
      // A file without imports is not a module, and its names would be global.
      project.write(`modules/${nameOf(snippet)}.ts`, `${snippet.code}\nexport {};\n`);
      project.write(`commonjs/${nameOf(snippet)}.cts`, `${asCommonJs(snippet.code)}\nexport {};\n`);
    }
    project.write(
      'declarations.ts',
      `import { GrpoTrainer, logitsLoss, policyLoss, presets, type LossConfig, type PolicyOptions } from 'groupgrad';
      export const config: LossConfig = { ...presets.dapo, kl: { beta: 0.04 } };
      export const options: PolicyOptions = { device: 'cpu' };
      export const all = [GrpoTrainer, logitsLoss, policyLoss];
      // @ts-expect-error: advantages are a Float32Array
      policyLoss({ shape: { sequences: 1, length: 1 }, logProbs: new Float32Array(1), advantages: [1] }, config);\n`,
    );
    project.write(
      'commonjs/declarations.cts',
      `export * from 'groupgrad';\nimport type { LossConfig } from 'groupgrad';\nexport type Config = LossConfig;\n`,
    );
  });
  after(() => project.remove());

  function check(options: object, files: string[]): void {
    const config = { compilerOptions: { ...strict, ...options }, files };
    const path = project.write('tsconfig.json', JSON.stringify(config));
    const { status, output } = runProgram(
      join(root, 'node_modules', '.bin', 'tsc'),
      ['--pretty', 'false', '-p', path],
      { cwd: project.folder },
    );
    assert.equal(status, 0, output);
  }

  test('there are snippets in README and in the docs', () => {
    const files = new Set(typescript.map(({ file }) => file));
    for (const file of ['README.md', 'docs/trainer.md', 'docs/losses.md', 'docs/tasks.md', 'docs/compare.md']) {
      assert.ok(files.has(file), file);
    }
  });

  for (const [mode, options] of Object.entries(modes)) {
    const skip = mode !== 'nodenext' && slowSet('another module resolution');
    // tfjs-core's own declarations need those of a browser, and would be checked too.
    test(`every snippet compiles under ${mode}`, { skip }, () => {
      check({ ...options, skipLibCheck: true }, ['given.d.ts', ...typescript.map((s) => `modules/${nameOf(s)}.ts`)]);
    });
    test(`the declarations are valid in full under ${mode}`, { skip }, () => {
      check({ ...options, skipLibCheck: false }, ['declarations.ts']);
    });
    if (mode === 'bundler') continue;
    test(`every snippet compiles as CommonJS under ${mode}`, { skip }, () => {
      check({ ...options, skipLibCheck: true }, ['given.d.ts', ...typescript.map((s) => `commonjs/${nameOf(s)}.cts`)]);
    });
    test(`the declarations for CommonJS are valid in full under ${mode}`, { skip }, () => {
      check({ ...options, skipLibCheck: false }, ['commonjs/declarations.cts']);
    });
  }
});
