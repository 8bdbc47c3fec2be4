// Defaults are stated once, in the schemas: what types, pages and the constructors of requests say of them are those.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { type Described, documentationOf } from '../../src/base/schema.js';
import { DifficultyAnchor } from '../../src/index.js';
import { anchorFields } from '../../src/loss/anchor.js';
import { advantageFields, callFields, lossFields, resolveAdvantage, resolveLoss } from '../../src/loss/config.js';
import { root } from '../support/native.js';

const read = (path: string) => readFileSync(join(root, path), 'utf8').replaceAll(/\s*\n\s*(?:\*(?!\/))?\s*/g, ' ');

function written(value: unknown): string {
  if (typeof value === 'string') return `\`${value}\``;
  if (typeof value === 'number' && value !== 0 && value < 1e-3) return value.toExponential().replace('+', '');
  return String(value);
}

/** The options that are not groups, by path. */
function leaves(fields: Readonly<Record<string, Described>>, at = ''): [path: string, field: Described][] {
  return Object.entries(fields).flatMap(([name, field]) =>
    field.fields ? leaves(field.fields, `${at}${name}.`) : [[at + name, field] as [string, Described]],
  );
}

const groups = { lossFields, advantageFields, anchorFields, callFields };

describe('options of losses, advantages, anchors and calls', () => {
  for (const [name, fields] of Object.entries(groups)) {
    test(`${name}: each has a type and a meaning, and a number without a value as its default says what that means`, () => {
      for (const [path, { type, doc, fallback }] of leaves(fields)) {
        assert.notEqual(type, '', path);
        assert.match(doc, /^\S.*[.:]$/, path);
        assert.doesNotMatch(fallback ?? '', /null|NaN|Infinity/, path);
      }
    });
  }

  test('the written default is the one that is filled in', () => {
    const surrogate = { kind: 'reinforce' };
    const { hadw, ...advantage } = resolveAdvantage('advantage', { hadw: {} });
    const { dqw } = resolveAdvantage('advantage', { dqw: {} });
    const { kl, entropy, ...loss } = resolveLoss({ surrogate, kl: { beta: 0 }, entropy: { coefficient: 0 } }, 1);
    const filled: [Readonly<Record<string, Described>>, object][] = [
      [lossFields, loss],
      [lossFields.kl.fields, kl],
      [lossFields.entropy.fields, entropy],
      [advantageFields, advantage],
      [advantageFields.hadw.fields, hadw!],
      [advantageFields.dqw.fields, dqw!],
      [anchorFields, new DifficultyAnchor().toJSON()],
    ];
    let compared = 0;
    for (const [fields, values] of filled) {
      for (const [name, field] of Object.entries(fields)) {
        const stated = /^(?:`([^`]*)`|([\d.e-]+|true|false))$/.exec(field.fallback ?? '');
        if (!stated) continue;
        assert.equal(stated[1] ?? stated[2], String((values as Record<string, unknown>)[name]), name);
        compared += 1;
      }
    }
    assert.ok(compared >= 16, String(compared));
  });
});

test('the documentation of an option states its meaning, range and default', () => {
  assert.equal(
    documentationOf(lossFields.entropy.fields.topQuantile),
    'Keep only this fraction of the tokens, those of the highest entropy. Above 0 and at most 1. Default 1.',
  );
  assert.equal(documentationOf(anchorFields.window), 'Batches of history. At least 1 and at most 1000000. Default 10.');
  assert.equal(documentationOf(callFields.metrics).endsWith(' Default true.'), true);
  assert.equal(
    documentationOf(lossFields.logRatioClamp),
    'Clamp of the log-ratio to [−c, c], zero gradient outside. Above 0. Default: none.',
  );
});

test('docs/losses.md and docs/hadw.md state the defaults of the code', () => {
  const { ddof, epsilon, hadw, center, scale } = resolveAdvantage('advantage', { hadw: {} });
  const { dqw } = resolveAdvantage('advantage', { dqw: {} });
  const { aggregation, kl } = resolveLoss({ surrogate: { kind: 'reinforce' } }, 1);
  const { window, minGain } = new DifficultyAnchor().toJSON();
  const losses = read('docs/losses.md');
  for (const text of [
    `\`${center}\` (default)`,
    `\`${scale}\` (default)`,
    `\`${aggregation}\` (default)`,
    `\`${kl.estimator}\` (default)`,
    `\`ddof\` (default ${ddof})`,
    `\`epsilon\` is ${written(epsilon)} by default`,
    `λ is \`hadw.scale\` (${hadw!.scale})`,
    `T = \`temperature\` (${dqw!.temperature}, the paper's)`,
    `the mean of the last ${window} batch accuracies`,
  ]) {
    assert.ok(losses.includes(text), text);
  }
  const page = read('docs/hadw.md');
  for (const text of [`\`hadw.scale\` (${hadw!.scale})`, `\`minGain\` (${minGain})`])
    assert.ok(page.includes(text), text);
});
