// Writes the results of `npm run study:mixture`: bench/results/hadw-mixture.json, docs/figures/hadw-mixture-*.svg, and
// the tables of docs/hadw.md on standard output.

import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { ComparisonResult } from '../../../src/compare/result.js';
import { figuresOf } from './figures.js';
import { tablesOf } from './tables.js';

const [, , comparison] = process.argv;
if (comparison === undefined) throw new Error('expected the path of a comparison.json, got nothing');
const inRepository = (path: string) => fileURLToPath(new URL(`../../../${path}`, import.meta.url));

const result = JSON.parse(readFileSync(comparison, 'utf8')) as ComparisonResult;
const unfinished = result.runs.filter(({ state }) => state !== 'finished');
if (unfinished.length > 0) throw new Error(`${comparison}: ${unfinished.length} runs are not finished`);
copyFileSync(comparison, inRepository('bench/results/hadw-mixture.json'));
for (const { name, svg } of figuresOf(result)) {
  writeFileSync(inRepository(`docs/figures/hadw-mixture-${name}.svg`), svg);
}
for (const { title, lines } of tablesOf(result)) console.log(`\n*${title}*\n\n${lines.join('\n')}`);
