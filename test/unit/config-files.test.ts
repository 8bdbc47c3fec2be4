// Configuration files in practice: with byte-order marks, with paths of other files, read from anywhere.

import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import test, { describe, type TestContext } from 'node:test';
import { resolvePlan, variantConfig } from '../../src/compare/plan.js';
import { loadChanged, loadConfig, resolveConfig } from '../../src/config/load.js';
import { type ComparisonConfig, tasks } from '../../src/index.js';
import { buildReport } from '../../src/report/run/index.js';
import { readRunConfig } from '../../src/run/run-folder.js';
import { evaluationExamples } from '../../src/train/options.js';
import { temporaryFolder } from '../support/trainer.js';

const line = '{"prompt": "a", "answer": "b"}\n';

/** A text in the encodings that editors and shells write, each with its byte-order mark. */
function marked(text: string): [name: string, bytes: Buffer][] {
  const utf16 = Buffer.from(`\ufeff${text}`, 'utf16le');
  return [
    ['UTF-8', Buffer.from(`\ufeff${text}`)],
    ['UTF-16, little end first', utf16],
    ['UTF-16, big end first', Buffer.from(utf16).swap16()],
  ];
}

/** Files in a new folder, by their names. */
function writeFiles(t: TestContext, files: Record<string, string | Buffer>): string {
  const folder = temporaryFolder(t);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(join(folder, name, '..'), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
  return folder;
}

/** Runs code in another working directory. */
async function within<T>(folder: string, run: () => Promise<T> | T): Promise<T> {
  const before = process.cwd();
  process.chdir(folder);
  try {
    return await run();
  } finally {
    process.chdir(before);
  }
}

describe('a byte-order mark', () => {
  for (const [encoding, bytes] of marked(JSON.stringify({ train: { task: 'copy' }, groupSize: 6 }))) {
    test(`of ${encoding} before a configuration in JSON`, async (t) => {
      const folder = writeFiles(t, { 'a.json': bytes });
      const { config } = await loadConfig(join(folder, 'a.json'), []);
      assert.equal(config.groupSize, 6);
    });
  }

  for (const [encoding, bytes] of marked(`${line}${line.replace('a', 'é')}`)) {
    test(`of ${encoding} before JSON lines`, (t) => {
      const folder = writeFiles(t, { 'a.jsonl': bytes });
      const task = tasks.jsonl({ path: join(folder, 'a.jsonl') });
      assert.deepEqual([task.size, task.example(1).prompt, task.characters], [2, 'é', 'abé']);
    });
  }

  test('before configurations in code, in comparisons, and in a run folder', async (t) => {
    const comparison = {
      base: { train: { task: 'copy' }, steps: 2 },
      variants: { one: {}, two: { groupSize: 4 } },
      seeds: 1,
      probe: { task: { task: 'copy' }, size: 8 },
    };
    const [[, json]] = marked(JSON.stringify(comparison));
    const folder = writeFiles(t, {
      'a.ts': '\ufeffexport default { train: { task: "copy" as const }, groupSize: 6 };',
      'a.mjs': '\ufeffexport default { train: { task: "copy" }, groupSize: 6 };',
      'comparison.json': json,
      'run/config.json': '\ufeff{"seed": 3}',
    });
    for (const name of ['a.ts', 'a.mjs']) {
      assert.equal((await loadConfig(join(folder, name), [])).config.groupSize, 6, name);
    }
    assert.deepEqual(resolvePlan(await loadChanged(join(folder, 'comparison.json'), [])).variants, ['one', 'two']);
    assert.deepEqual(readRunConfig(join(folder, 'run')), { seed: 3 });
    assert.doesNotMatch(await buildReport(join(folder, 'run')), /could not be read/);
  });

  test('does not excuse bytes that are not text', async (t) => {
    const folder = writeFiles(t, { 'a.json': Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]) });
    await assert.rejects(loadConfig(join(folder, 'a.json'), []), /a\.json: .*utf-8/);
  });
});

describe('a path in a configuration', () => {
  const described = { task: 'jsonl', path: 'data/a.jsonl' };
  const configuration = { train: described, evaluate: { same: { ...described, split: 'train' } } };

  for (const [name, content] of [
    ['mine.json', JSON.stringify(configuration)],
    ['mine.ts', `export default ${JSON.stringify(configuration)};`],
  ]) {
    test(`is relative to the configuration: ${name}`, async (t) => {
      const folder = writeFiles(t, { [`deep/${name}`]: content, 'deep/data/a.jsonl': line.repeat(3) });
      for (const from of [folder, join(folder, 'deep'), process.cwd()]) {
        await within(from, async () => {
          const { config, source } = await loadConfig(relative(from, join(folder, 'deep', name)), []);
          const { train, evaluate } = resolveConfig(config);
          assert.deepEqual([train.size, evaluate!.same.size], [3, 3]);
          // The paths that a run stores can be read from anywhere too.
          const saved = await within(join(folder, 'deep', 'data'), () => loadConfig(source.from, source.set));
          assert.deepEqual(saved.config, config);
        });
      }
    });
  }

  test('is relative to the working directory in --set, and stored as absolute', async (t) => {
    const folder = writeFiles(t, {
      'deep/mine.json': JSON.stringify(configuration),
      'deep/data/a.jsonl': line,
      'here/b.jsonl': line.repeat(2),
    });
    const set = [
      'train.path=b.jsonl',
      'evaluate={"other": {"task": "jsonl", "path": "../here/b.jsonl"}}',
      'groupSize=6',
    ];
    const { config, source } = await within(join(folder, 'here'), () => loadConfig('../deep/mine.json', set));
    const { train, evaluate } = resolveConfig(config);
    assert.deepEqual([train.size, evaluate!.other.size], [2, 2]);
    assert.equal(source.set[0], `train.path=${join(folder, 'here', 'b.jsonl')}`);
    assert.equal(source.set[2], 'groupSize=6');
    const saved = await within(folder, () => loadConfig(source.from, source.set));
    assert.deepEqual(saved.config, config);
  });

  test('is relative to the comparison in its base, its probe and its variants', async (t) => {
    const comparison = {
      base: { train: described, evaluate: { same: described }, steps: 1 },
      variants: {
        one: {},
        two: { evaluate: { other: { task: 'jsonl', path: './data/b.jsonl' } } },
        three: { 'evaluate.same.path': 'data/b.jsonl' },
      },
      seeds: 1,
      probe: { task: described },
    };
    const folder = writeFiles(t, {
      'deep/comparison.json': JSON.stringify(comparison),
      'deep/data/a.jsonl': line,
      'deep/data/b.jsonl': line.repeat(4),
    });
    const sizes = (from: string) =>
      within(from, async () => {
        const loaded = await loadChanged(join(folder, 'deep', 'comparison.json'), []);
        const { variants } = resolvePlan(loaded);
        return variants.map((name) => {
          const { train, evaluate } = resolveConfig(variantConfig(loaded as unknown as ComparisonConfig, name, 0));
          return [train.size, ...Object.values(evaluate!).map(({ size }) => size)];
        });
      });
    for (const from of [folder, join(folder, 'deep', 'data')]) {
      assert.deepEqual(await sizes(from), [
        [1, 1],
        [1, 4],
        [1, 4],
      ]);
    }
  });

  test('leaves objects made in code alone', async (t) => {
    const folder = writeFiles(t, {
      'mine.ts': `
        const train = { name: 'mine', path: 'x', characters: 'ab', maxPromptLength: 1, maxSolutionLength: 1,
          example: () => ({ prompt: 'a', answer: 'b', solution: 'b', difficulty: 0 }), score: () => 1 };
        export const policy = () => { throw new Error('none'); };
        export default { train, policy, betas: Float32Array.of(1, 2) };`,
    });
    const { config } = await loadConfig(join(folder, 'mine.ts'), []);
    assert.equal((config.train as unknown as { path: string }).path, 'x');
    assert.ok((config as unknown as { betas: unknown }).betas instanceof Float32Array);
  });

  test('a file moved with its configuration is the same task', (t) => {
    const [one, other] = [writeFiles(t, { 'a.jsonl': line }), writeFiles(t, { 'a.jsonl': line })];
    assert.equal(
      tasks.jsonl({ path: join(one, 'a.jsonl') }).name,
      tasks.jsonl({ path: relative(process.cwd(), join(other, 'a.jsonl')) }).name,
    );
  });
});

test('evaluation.size limits every task; without it, a finite task is used as a whole', () => {
  const endless = tasks.copy({ seed: 1 });
  const whole = tasks.copy({ seed: 1, size: 10 });
  assert.equal(evaluationExamples(endless, null).length, 256);
  assert.equal(evaluationExamples(endless, 7).length, 7);
  assert.equal(evaluationExamples(whole, null).length, 10);
  assert.equal(evaluationExamples(whole, 64).length, 10);
  // Spread over the list, which may be sorted.
  const taken = evaluationExamples(whole, 4).map(({ prompt }) => prompt);
  assert.deepEqual(
    taken,
    [0, 2, 5, 7].map((i) => whole.example(i).prompt),
  );
});
