// Defaults are stated once, in code: what comments and pages say of them are those.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { DifficultyAnchor } from '../../src/index.js';
import { advantageDefaults, callBounds, callDefaults, lossDefaults } from '../../src/loss/config.js';
import { root } from '../support/native.js';

const read = (path: string) => readFileSync(join(root, path), 'utf8').replaceAll(/\s*\n\s*(?:\*(?!\/))?\s*/g, ' ');
const sources = {
  config: read('src/loss/config.ts'),
  anchor: read('src/loss/anchor.ts'),
  request: read('src/loss/request.ts'),
};

/** The comment of a field: the one before its declaration. */
function commentsOf(source: string, field: string): string[] {
  return [...source.matchAll(new RegExp(`/\\*\\* ((?:(?!\\*/).)*?) \\*/ ${field}\\?: `, 'g'))].map(([, text]) => text);
}

function written(value: unknown): string {
  if (typeof value === 'string') return `\`${value}\``;
  if (typeof value === 'number' && value !== 0 && value < 1e-3) return value.toExponential().replace('+', '');
  return String(value);
}

test('comments of fields state the defaults of the code', () => {
  const { kl, entropy } = lossDefaults;
  const anchor = new DifficultyAnchor().toJSON();
  for (const [source, field, value] of [
    ['config', 'ratio', lossDefaults.ratio],
    ['config', 'aggregation', lossDefaults.aggregation],
    ['config', 'emptySequences', lossDefaults.emptySequences],
    ['config', 'estimator', kl.estimator],
    ['config', 'importanceWeighted', kl.importanceWeighted],
    ['config', 'topQuantile', entropy.topQuantile],
    ['config', 'center', advantageDefaults.center],
    ['config', 'scale', advantageDefaults.scale],
    ['config', 'scale', advantageDefaults.hadw.scale],
    ['config', 'ddof', advantageDefaults.ddof],
    ['config', 'epsilon', advantageDefaults.epsilon],
    ['config', 'temperature', advantageDefaults.dqw.temperature],
    ['anchor', 'window', anchor.window],
    ['anchor', 'eta', anchor.eta],
    ['anchor', 'minGain', anchor.minGain],
    ['request', 'temperature', callDefaults.temperature],
    ['request', 'metrics', callDefaults.metrics],
    ['request', 'lossScale', callDefaults.lossScale],
  ] as const) {
    const found = commentsOf(sources[source], field).filter((text) => /\bDefault\b/.test(text));
    const stated = found.flatMap((text) => /\bDefault (`[^`]+`|[\w.-]*\w)/.exec(text)?.[1] ?? []);
    assert.ok(stated.length > 0 && stated.includes(written(value)), `${field}: ${stated} for ${written(value)}`);
    // λ and the scale of advantages have one name.
    if (field !== 'scale') assert.deepEqual([...new Set(stated)], [written(value)], field);
  }
  for (const text of commentsOf(sources.request, 'temperature')) {
    assert.ok(text.includes(`at least ${written(callBounds.temperature.min)}`), text);
  }
});

test('docs/losses.md and docs/hadw.md state the defaults of the code', () => {
  const { ddof, epsilon, hadw, dqw, center, scale } = advantageDefaults;
  const { window, minGain } = new DifficultyAnchor().toJSON();
  const losses = read('docs/losses.md');
  for (const text of [
    `\`${center}\` (default)`,
    `\`${scale}\` (default)`,
    `\`${lossDefaults.aggregation}\` (default)`,
    `\`${lossDefaults.kl.estimator}\` (default)`,
    `\`ddof\` (default ${ddof})`,
    `\`epsilon\` is ${written(epsilon)} by default`,
    `λ is \`hadw.scale\` (${hadw.scale})`,
    `T = \`temperature\` (${dqw.temperature}, the paper's)`,
    `the mean of the last ${window} batch accuracies`,
  ]) {
    assert.ok(losses.includes(text), text);
  }
  const page = read('docs/hadw.md');
  for (const text of [`\`hadw.scale\` (${hadw.scale})`, `\`minGain\` (${minGain})`])
    assert.ok(page.includes(text), text);
});
