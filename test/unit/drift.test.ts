// How a resumed run is identified: by every problem that it depends on.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';
import test, { describe, type TestContext } from 'node:test';
import { type Example, type Task, tasks } from '../../src/index.js';
import { differences, identifyTask } from '../../src/run/drift.js';
import { generated } from '../support/tasks.js';
import { temporaryFolder } from '../support/trainer.js';

/** As in config.json. */
const identity = (task: Task, used?: number) => JSON.parse(JSON.stringify({ train: identifyTask(task, used) }));
const drift = (before: Task, now: Task, used?: number) => differences(identity(before, used), identity(now, used));
const hash = (text: string) => createHash('sha256').update(text).digest('hex');

describe('a data file', () => {
  const lines = (count: number) =>
    Array.from({ length: count }, (_, i) => `{"prompt":"${i}+1=","answer":"${i + 1}","hint":"h"}`);

  function write(t: TestContext, content: string): string {
    const path = join(temporaryFolder(t), 'sums.jsonl');
    fs.writeFileSync(path, content);
    return path;
  }

  const original = `${lines(200).join('\n')}\n`;
  for (const [what, content, problems] of [
    ['another answer in line 150', original.replace('"answer":"150"', '"answer":"151"'), 200],
    ['another field of the last line', original.replace(/"h"}\n$/, '"i"}\n'), 200],
    ['another line', `${lines(201).join('\n')}\n`, 201],
    ['a line less', `${lines(199).join('\n')}\n`, 199],
    ['two lines exchanged', lines(200).toSpliced(100, 2, lines(200)[101], lines(200)[100]).join('\n'), 200],
    ['other line ends', original.replaceAll('\n', '\r\n'), 200],
    ['an empty line', original.replace('\n', '\n\n'), 200],
  ] as const) {
    for (const split of [undefined, 'train', 'held-out'] as const) {
      test(`with ${what} is different, reported by name, hash and number of problems (${split ?? 'no split'})`, (t) => {
        const path = write(t, original);
        const before = identity(tasks.jsonl({ path, split }));
        fs.writeFileSync(path, content);
        const [was, is] = [original, content].map((text) => `${hash(text).slice(0, 12)}…`);
        assert.deepEqual(differences(before, identity(tasks.jsonl({ path, split }))), [
          `train: the data file ${path} has changed: 200 problems, SHA-256 ${was}, now ${problems} problems, SHA-256 ${is}`,
        ]);
      });
    }
  }

  test('is the same in another folder and under another name', (t) => {
    const [path, moved] = [write(t, original), join(temporaryFolder(t), 'moved.jsonl')];
    fs.writeFileSync(moved, original);
    assert.deepEqual(drift(tasks.jsonl({ path }), tasks.jsonl({ path: moved })), []);
    assert.deepEqual(drift(tasks.jsonl({ path, split: 'train' }), tasks.jsonl({ path: moved, split: 'held-out' })), [
      'train.size: 159, now 41',
      'train.source.split: "train", now "held-out"',
    ]);
    const characters = `${tasks.jsonl({ path }).characters}xyz`;
    assert.match(drift(tasks.jsonl({ path }), tasks.jsonl({ path, characters }))[0], /^train\.characters: /);
  });

  test('is identified by its contents when it was read, not when the run begins', (t) => {
    const path = write(t, original);
    const task = tasks.jsonl({ path });
    const before = identity(task);
    fs.writeFileSync(path, lines(3).join('\n'));
    assert.deepEqual(identity(task), before);
  });

  test('whose problems were changed in code is no longer identified as a file', (t) => {
    const path = write(t, original);
    const file = tasks.jsonl({ path });
    const changed = (at: number): Task => ({
      ...file,
      example: (i) => (i === at ? { ...file.example(i), answer: '?' } : file.example(i)),
    });
    assert.equal(drift(changed(-1), changed(150)).length, 1);
    assert.match(
      drift(changed(-1), changed(150))[0],
      /^train\.examples: all 200, SHA-256 .{12}…, now all 200, SHA-256 .{12}…$/,
    );
  });
});

/** Problems of the user's own program. */
function custom(answer: (index: number) => unknown, size?: number): Task {
  const example = (i: number) => ({ prompt: `${i}`, answer: answer(i), solution: '1', difficulty: 0 }) as Example;
  return {
    name: 'custom',
    characters: '0123456789',
    maxPromptLength: 7,
    maxSolutionLength: 1,
    size,
    example,
    score: () => 0,
  };
}

const other = (at: number) => custom((i) => (i === at ? 'another' : 'one'), 100);

describe('a user-defined task', () => {
  test('if finite, is compared by all of its problems', () => {
    for (const at of [0, 8, 64, 99]) {
      assert.deepEqual(
        drift(other(-1), other(at)).map((line) => line.replace(/SHA-256 .{12}…/g, 'hash')),
        ['train.examples: all 100, hash, now all 100, hash'],
      );
    }
    assert.deepEqual(drift(other(-1), other(100)), []);
    assert.match(
      drift(
        custom(() => 'one', 100),
        custom(() => 'one', 101),
      )[0],
      /^train\.size: 100, now 101$/,
    );
  });

  test('with very many problems is compared by as many as take a second', () => {
    let asked = 0;
    const many = (from: number) =>
      custom((i) => {
        asked++;
        return i >= from ? 'another' : 'one';
      }, 1e9);
    assert.match(drift(many(1e9), many(999_900_000))[0], /^train\.examples: a sample of 65536, /);
    assert.ok(asked < 140_000, `${asked} problems`);
  });

  test('if infinite, is compared by its first problems, by those evaluated, and by some of the rest', () => {
    const from = (first: number) => custom((i) => (i >= first ? 'another' : 'one'));
    for (const first of [0, 8, 63, 1000, 500_000])
      assert.equal(drift(from(Infinity), from(first)).length, 1, `${first}`);
    const at = (index: number) => custom((i) => (i === index ? 'another' : 'one'));
    assert.equal(drift(at(-1), at(200)).length, 0);
    assert.equal(drift(at(-1), at(200), 256).length, 1);
    assert.equal(drift(at(-1), at(255), 256).length, 1);
  });

  test('may have any fields in its problems', () => {
    const cyclic: Record<string, unknown> = {};
    cyclic.self = cyclic;
    for (const [one, another] of [
      [1n, 2n],
      [new Map([[1, 2]]), new Map([[1, 3]])],
      [new Set(['a']), new Set(['b'])],
      [{ deep: [1n] }, { deep: [2n] }],
    ]) {
      assert.equal(
        drift(
          custom(() => one, 9),
          custom(() => another, 9),
        ).length,
        1,
      );
      assert.equal(
        drift(
          custom(() => one, 9),
          custom(() => one, 9),
        ).length,
        0,
      );
    }
    // Such a field cannot be compared: the others are.
    const withField = (answer: string): Task => {
      const task = custom(() => answer, 9);
      return { ...task, example: (i) => ({ ...task.example(i), cyclic }) as Example };
    };
    assert.equal(drift(withField('one'), withField('one')).length, 0);
    assert.equal(drift(withField('one'), withField('another')).length, 1);
  });
});

describe('a generated task', () => {
  for (const [name, make] of Object.entries(generated)) {
    test(`${name}: the same options are the same, another seed or split is reported by name`, () => {
      const task = make({ seed: 3 });
      assert.deepEqual(drift(task, make({ seed: 3 })), []);
      assert.match(drift(task, make({ seed: 4 }))[0], /^train\.source\.seed: 3, now 4$/);
      assert.ok(
        drift(task, make({ seed: 3, split: 'held-out' })).includes('train.source.split: "train", now "held-out"'),
      );
      // Long lists take no longer than short ones.
      assert.deepEqual(drift(make({ seed: 3, size: 1e6 }), make({ seed: 3, size: 1e6 })), []);
    });
  }

  test('with other options is reported by their names, whether written out or not', () => {
    assert.deepEqual(
      drift(tasks.countdown({ seed: 1 }), tasks.countdown({ seed: 1, numbers: [3, 4], maxTarget: 99 })),
      [],
    );
    const found = drift(tasks.countdown({ seed: 1 }), tasks.countdown({ seed: 1, maxTarget: 98 }));
    assert.equal(found[0], 'train.source.maxTarget: 99, now 98');
    assert.equal(
      drift(tasks.bandit({ seed: 1 }), tasks.bandit({ seed: 1, contexts: 2 }))[0],
      'train.source.contexts: 1, now 2',
    );
    assert.equal(drift(tasks.addition({ seed: 1, digits: 2 }), tasks.addition({ seed: 1, digits: [2, 2] })).length, 0);
  });

  test('whose generator has changed is reported, although its options are the same', () => {
    const before = identity(tasks.sort({ seed: 1 }));
    const now = structuredClone(before);
    now.train.examples.sha256 = hash('as a later version would draw them');
    assert.match(differences(before, now)[0], /^train\.examples: a sample of 79, SHA-256 /);
  });
});

describe('an identity of an earlier version', () => {
  /** The first eight problems only. */
  function old(task: Task, name = task.name) {
    const { characters, size, maxPromptLength, maxSolutionLength } = task;
    const examples = Array.from({ length: Math.min(size ?? Infinity, 8) }, (_, i) => task.example(i));
    const digest = hash(JSON.stringify(examples)).slice(0, 16);
    return { train: { name, characters, size: size ?? null, maxPromptLength, maxSolutionLength, examples: digest } };
  }

  test('is compared with the same facts of the current run', () => {
    for (const [before, now] of [
      [other(-1), other(-1)],
      [other(-1), other(50)],
      [tasks.countdown({ seed: 1 }), tasks.countdown({ seed: 1 })],
      [tasks.sort({ seed: 1, size: 5 }), tasks.sort({ seed: 1, size: 5 })],
    ]) {
      assert.deepEqual(differences(old(before), identity(now)), []);
    }
    assert.match(
      differences(old(other(-1)), identity(other(3))).join('\n'),
      /^train\.examples: the first 8 hash to [0-9a-f]{16}, now to [0-9a-f]{16}$/,
    );
    assert.deepEqual(differences(old(custom(() => 'one', 100)), identity(custom(() => 'one', 101))), [
      'train.size: 100, now 101',
    ]);
  });

  test('may use the path of a file as a name', (t) => {
    const path = join(temporaryFolder(t), 'sums.jsonl');
    fs.writeFileSync(path, '{"prompt":"1","answer":"2"}');
    const task = tasks.jsonl({ path });
    for (const name of [path, 'data/sums.jsonl', 'sums.jsonl']) {
      assert.deepEqual(differences(old(task, name), identity(task)), []);
    }
    assert.deepEqual(differences(old(task, 'other.jsonl'), identity(task)), [
      'train.name: "other.jsonl", now "sums.jsonl"',
    ]);
  });
});
