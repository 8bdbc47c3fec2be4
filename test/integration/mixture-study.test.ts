// The mixture study's committed results, and the page that describes them. Its runs take most of an hour and are not repeated here.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { figuresOf } from '../../examples/studies/mixture/figures.js';
import { tablesOf } from '../../examples/studies/mixture/tables.js';
import { resolvePlan } from '../../src/compare/plan.js';
import type { ComparisonResult } from '../../src/compare/result.js';
import { summarize } from '../../src/compare/summary.js';
import { loadChanged } from '../../src/config/load.js';
import { differences } from '../../src/run/drift.js';
import { root } from '../support/native.js';

const committed: ComparisonResult = JSON.parse(readFileSync(join(root, 'bench/results/hadw-mixture.json'), 'utf8'));
const page = readFileSync(join(root, 'docs/hadw.md'), 'utf8');
const [section] = page.slice(page.indexOf('## Study: hard, medium and easy prompts')).split(/\n## (?!Study: hard)/);

test('the committed results are those of examples/studies/mixture.ts, and complete', async () => {
  const plan = resolvePlan(await loadChanged(join(root, 'examples/studies/mixture.ts'), []));
  const { identity, ...configuration } = JSON.parse(JSON.stringify(plan)) as typeof plan;
  const { identity: before, ...rest } = committed.configuration;
  // These results are older than benchmarks of comparisons.
  assert.deepEqual({ ...rest, benchmarks: rest.benchmarks ?? {} }, configuration);
  // Compared like a comparison's folder: settings newer than the results, which have no effect in them, may differ.
  assert.deepEqual(differences(before.common, identity.common), []);
  assert.deepEqual(Object.keys(before.variants), Object.keys(identity.variants));
  for (const [name, variant] of Object.entries(before.variants)) {
    assert.deepEqual(differences(variant, identity.variants[name]), [], name);
  }
  assert.deepEqual(committed.notes, []);
  assert.equal(committed.runs.length, plan.seeds.length * plan.variants.length);
  assert.ok(committed.runs.every(({ state }) => state === 'finished'));
});

test('the committed summary is that of the committed runs', () => {
  const again = summarize(committed.configuration, committed);
  const near = (actual: unknown, expected: unknown, path: string): void => {
    if (typeof expected === 'number') {
      // Runs and summary are rounded to 8 digits each; differences of shares lose the leading ones.
      assert.ok(Math.abs((actual as number) - expected) < 1e-6, `${path}: ${actual}, expected ${expected}`);
    } else if (typeof expected === 'object' && expected !== null) {
      for (const [key, value] of Object.entries(expected)) {
        near((actual as Record<string, unknown>)[key], value, `${path}.${key}`);
      }
    } else assert.equal(actual, expected, path);
  };
  near(again.variants, committed.summary.variants, 'variants');
  // A tie between sign patterns may be counted differently after rounding: p is not compared.
  const withoutP = committed.summary.pairs.map(({ quantities, ...pair }) => ({
    ...pair,
    quantities: Object.fromEntries(
      Object.entries(quantities).map(([name, { p: _, exact: __, ...rest }]) => [name, rest]),
    ),
  }));
  near(again.pairs, withoutP, 'pairs');
});

test('the committed figures show the committed results', () => {
  for (const { name, svg } of figuresOf(committed)) {
    assert.equal(readFileSync(join(root, `docs/figures/hadw-mixture-${name}.svg`), 'utf8'), svg, name);
    assert.ok(section.includes(`(figures/hadw-mixture-${name}.svg)`), name);
  }
});

test('docs/hadw.md has the tables of the committed results', () => {
  for (const { title, lines } of tablesOf(committed)) {
    assert.ok(section.includes(`*${title}*\n\n${lines.join('\n')}\n`), title);
  }
  assert.equal(section.match(/^\| ---/gm)!.length, tablesOf(committed).length);
});

test('every result mentioned in the section and the advice is in a table', () => {
  const tables = tablesOf(committed)
    .flatMap(({ lines }) => lines)
    .join('\n');
  const advice = page.slice(page.indexOf('## When to switch it on'), page.indexOf('## The bias'));
  const prose = `${section}\n${advice}`
    .split('\n')
    .filter((line) => !line.startsWith('|') && !/^\*.*\*$/.test(line))
    .join(' ');
  const numbers = prose.match(/(?<![\d.])[+−]\d+(\.\d+)?(?![\d.]* (…|to))|(?<![\d.])\d+\.\d+(?= %)/g) ?? [];
  assert.ok(numbers.length > 5);
  for (const number of numbers) assert.ok(tables.includes(number), number);
});
