// Options by their schema: what is filled in, what is rejected and by which path, what is written of them; and that --set changes every
// setting that `groupgrad settings` lists.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  choice,
  count,
  documentationOf,
  type Fields,
  flag,
  group,
  number,
  omittable,
  optional,
  resolveFields,
} from '../../src/base/schema.js';
import { settings } from '../../src/cli/settings.js';
import { checkConfig, resolveConfig, setAll } from '../../src/config/load.js';
import { presets } from '../../src/index.js';
import { resolveSettings, type Settings } from '../../src/train/options.js';

const term = { weight: number({ min: 0, doc: '' }), kind: choice(['a', 'b'], { default: 'a', doc: '' }) };
const fields = {
  rate: number({ default: 0.5, above: 0, below: 1, doc: 'A rate.' }),
  bound: number({ default: Infinity, otherwise: 'none', doc: 'A bound.' }),
  size: count({ default: null, otherwise: 'all', doc: '' }),
  fast: flag({ default: false, doc: '' }),
  part: group({ steps: count({ default: 3, min: 2, doc: '' }) }),
  maybe: optional(group({ steps: count({ doc: '' }) }), 'none'),
  term: omittable(term, { off: { weight: 0, kind: 'a' }, otherwise: 'none' }),
};
const filled = {
  rate: 0.5,
  bound: Infinity,
  size: null,
  fast: false,
  part: { steps: 3 },
  maybe: null,
  term: { weight: 0, kind: 'a' },
};

describe('options by their schema', () => {
  test('omitted ones have their defaults, in the order of the schema', () => {
    assert.deepEqual(resolveFields(fields, '', {}), filled);
    assert.deepEqual(Object.keys(resolveFields(fields, '', { fast: true, rate: 0.1 })), Object.keys(fields));
    assert.deepEqual(resolveFields(fields, '', { rate: 0.1, term: { weight: 2 } }), {
      ...filled,
      rate: 0.1,
      term: { weight: 2, kind: 'a' },
    });
  });

  test('null means a default that is null, the defaults of a group, or a group that is omitted', () => {
    assert.deepEqual(resolveFields(fields, '', { size: null, part: null, maybe: null }), filled);
    for (const name of ['rate', 'bound', 'fast', 'term']) {
      assert.throws(() => resolveFields(fields, 'a', { [name]: null }), {
        name: 'TypeError',
        message: new RegExp(`^a\\.${name}: expected .*, got null$`),
      });
    }
  });

  test('settings of two calls share no object', () => {
    const first = resolveFields(fields, '', {});
    first.part.steps = 9;
    first.term.weight = 9;
    assert.deepEqual(resolveFields(fields, '', {}), filled);
  });

  test('mistakes are rejected by their path', () => {
    const cases: [given: object, message: string][] = [
      [{ rate: 1 }, 'a.rate: expected a finite number above 0 and below 1, got 1'],
      [{ size: 0 }, 'a.size: expected an integer at least 1, got 0'],
      [{ part: { steps: 1 } }, 'a.part.steps: expected an integer at least 2, got 1'],
      [{ maybe: {} }, 'a.maybe.steps: expected an integer at least 1, got nothing'],
      [{ term: {} }, 'a.term.weight: expected a finite number at least 0, got nothing'],
      [{ term: { weight: 1, kind: 'c' } }, `a.term.kind: expected one of 'a', 'b', got "c"`],
      [{ term: { wieght: 1 } }, 'a.term.wieght: unknown field; expected one of weight, kind'],
      [{ term: 3 }, 'a.term: expected an object, got 3'],
      [{ toString: 1 }, `a.toString: unknown field; expected one of ${Object.keys(fields).join(', ')}`],
    ];
    for (const [given, message] of cases) assert.throws(() => resolveFields(fields, 'a', given), { message });
  });

  test('an option that is read from a prototype counts, and each is read once', () => {
    let reads = 0;
    class Options {
      get rate(): number {
        reads += 1;
        return 0.25;
      }
    }
    assert.equal(resolveFields(fields, '', new Options()).rate, 0.25);
    assert.equal(reads, 1);
  });

  test('their documentation is meaning, range and default', () => {
    const texts = Object.entries(fields as Fields).map(([name, field]) => [name, documentationOf(field)]);
    assert.deepEqual(Object.fromEntries(texts), {
      rate: 'A rate. Above 0 and below 1. Default 0.5.',
      bound: 'A bound. Default: none.',
      size: 'Default: all.',
      fast: 'Default false.',
      part: '',
      maybe: 'Default: none.',
      term: 'Default: none.',
    });
    assert.equal(documentationOf(fields.part.fields.steps), 'At least 2. Default 3.');
    assert.equal(documentationOf(term.weight), 'At least 0.');
  });
});

/** What `groupgrad settings` lists below a path: by path, the type. */
async function listed(t: { mock: typeof test.mock }, start: string): Promise<Map<string, string>> {
  const lines: string[] = [];
  const log = t.mock.method(console, 'log', (line: string) => lines.push(line));
  await settings(start === '' ? [] : [start]);
  log.mock.restore();
  return new Map(
    lines
      .filter((line) => !line.startsWith(' '))
      .map((line) => {
        const [path, type = ''] = line.split('  ');
        return [path, type];
      }),
  );
}

/** The settings of a run with these changes, as `--set` makes them. */
function changed(config: Record<string, unknown>, ...set: string[]): Settings {
  const run = { train: { task: 'addition', digits: 1 }, ...config };
  return resolveSettings(resolveConfig(checkConfig(setAll(run, set))));
}

describe('settings', () => {
  test('those of loss, advantages and anchor are listed with theirs', async (t) => {
    const all = await listed(t, '');
    for (const [path, type] of [
      [
        'loss.preset',
        Object.keys(presets)
          .map((name) => `'${name}'`)
          .join(' | '),
      ],
      ['loss.ratio', "'token' | 'sequence' | 'sequence-token'"],
      ['loss.surrogate.kind', "'clip' | 'cispo' | 'sapo' | 'gmpo' | 'vespo' | 'reinforce'"],
      ['loss.surrogate.high', 'number'],
      ['loss.kl.beta', 'number'],
      ['loss.kl.importanceWeighted', 'boolean'],
      ['loss.entropy.topQuantile', 'number'],
      ['advantage.center', "'mean' | 'leave-one-out' | 'none'"],
      ['advantage.ddof', '0 | 1'],
      ['advantage.dqw.temperature', 'number'],
      ['hadw.scale', 'number'],
      ['hadw.anchor.window', 'integer'],
      ['groupSize', 'integer'],
      ['optimizer.learningRate', 'number'],
    ]) {
      assert.equal(all.get(path), type, path);
    }
    // Those that the trainer sets itself are no settings of a run.
    for (const path of ['loss.entropy.tokens', 'loss.entropy.threshold', 'advantage.groupSize', 'advantage.hadw']) {
      assert.equal(all.has(path), false, path);
    }
    assert.deepEqual(
      [...(await listed(t, 'loss.kl')).keys()],
      ['loss.kl', 'loss.kl.beta', 'loss.kl.estimator', 'loss.kl.importanceWeighted', 'loss.kl.logRatioClamp'],
    );
  });

  test('--set reaches each of them: a wrong value is rejected by its path', async (t) => {
    const config = {
      dynamicSampling: { maxRounds: 2 },
      klReward: { beta: 0.1 },
      warmStart: { steps: 1 },
      loss: { preset: 'dapo', kl: { beta: 0.1 }, entropy: { coefficient: 0.1 } },
    };
    changed(config);
    let count = 0;
    for (const [path, type] of await listed(t, '')) {
      if (type === '') continue;
      const wrong = /string/.test(type) ? 5 : 'wrong';
      assert.throws(
        () => changed(config, `${path}=${wrong}`),
        (error: Error) => {
          assert.ok(error.message.startsWith(path), `${path}: ${error.message}`);
          return error instanceof TypeError || error instanceof RangeError;
        },
      );
      count += 1;
    }
    assert.ok(count > 90, String(count));
  });

  test('--set changes a loss from a preset, its surrogate too', () => {
    const { dapo, sapo } = presets;
    assert.deepEqual(changed({}).loss, dapo);
    assert.deepEqual(changed({}, 'loss.kl.beta=0.04').loss, { ...dapo, kl: { beta: 0.04 } });
    assert.deepEqual(changed({}, 'loss=gspo').loss, presets.gspo);
    assert.deepEqual(changed({}, 'loss.surrogate.high=0.3').loss, {
      ...dapo,
      surrogate: { ...dapo.surrogate, high: 0.3 },
    });
    assert.deepEqual(changed({}, 'loss.preset=sapo', 'loss.surrogate.tauNegative=1.5').loss, {
      ...sapo,
      surrogate: { kind: 'sapo', tauNegative: 1.5 },
    });
    assert.deepEqual(changed({}, 'loss.preset=gspo', 'loss.surrogate={"kind":"cispo","high":4}').loss, {
      ...presets.gspo,
      surrogate: { kind: 'cispo', high: 4 },
    });
    const own = { surrogate: { kind: 'reinforce' } };
    assert.deepEqual(changed({ loss: own }, 'loss.aggregation=constant').loss, { ...own, aggregation: 'constant' });
    assert.throws(() => changed({}, 'loss.surrogate=clip'), {
      name: 'TypeError',
      message: 'loss.surrogate: expected an object, got "clip"',
    });
    assert.throws(() => changed({}, 'loss.preset=grop'), {
      name: 'RangeError',
      message: /^loss\.preset: expected one of/,
    });
  });

  test('--set changes advantages, HA-DW and its anchor', () => {
    assert.deepEqual(changed({}, 'advantage.scale=group-mad', 'advantage.dqw.temperature=3').advantage, {
      center: 'mean',
      scale: 'group-mad',
      ddof: 1,
      epsilon: 1e-4,
      dqw: { temperature: 3 },
    });
    assert.deepEqual(changed({}, 'hadw.anchor.update=kalman').hadw, {
      scale: 1.3,
      anchor: { update: 'kalman', window: 10, eta: 1, minGain: 0.05, timing: 'prior' },
    });
    assert.deepEqual(changed({}, 'hadw.anchor=none').hadw, { scale: 1.3, anchor: 'none' });
    assert.throws(() => changed({}, 'loss.entropy={"coefficient":0.1,"tokens":3}'), {
      name: 'TypeError',
      message: 'loss.entropy.tokens: expected nothing, because the trainer counts them itself, got 3',
    });
  });
});
