// Tasks as tokens: prompts and chats, end tokens, padding, and unused ids, with tokenizers that are not
// character-level.

import assert from 'node:assert/strict';
import test, { before, describe } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import { evaluate } from '../../src/evaluation/evaluate.js';
import { definePolicy } from '../../src/model/define.js';
import type { Policy } from '../../src/model/policy.js';
import { sampleGroups } from '../../src/rollout/rollout.js';
import { encodePrompts, tokenTask } from '../../src/rollout/token-task.js';
import type { Example, Task } from '../../src/tasks/index.js';
import type { Tokenizer } from '../../src/text/tokenizer.js';
import { characterVocabulary } from '../../src/text/vocabulary.js';
import { vocabularyTokenizer } from '../../src/text/vocabulary-tokenizer.js';
import { createTrainer } from '../../src/train/grpo.js';
import { quickBackend } from '../support/backend.js';
import { temporaryFolder, tinyTask } from '../support/trainer.js';

/** Letters a to h are ids 1 to 8; 0 begins a text, 9 pads, 10 and 11 end a completion, 12 is special: `<s>`. */
const letters = 'abcdefgh';
const [begin, padding, special] = [0, 9, 12];
const ends = [10, 11];
const endToken = 11;

function tokenizer(change: Partial<Tokenizer> = {}): Tokenizer {
  return {
    vocabularySize: 13,
    endTokens: ends,
    endToken,
    paddingToken: padding,
    specialTokens: new Map([['<s>', special]]),
    encode: async (texts, { addSpecialTokens = true } = {}) =>
      texts.map((text) =>
        Int32Array.from([...(addSpecialTokens ? [begin] : []), ...[...text].map((c) => letters.indexOf(c) + 1)]),
      ),
    decode: (ids, { skipSpecialTokens = false } = {}) =>
      Array.from(ids, (id) => letters[id - 1] ?? (skipSpecialTokens ? '' : `<${id}>`)).join(''),
    stream: () => ({ push: () => '', end: () => '' }),
    ...change,
  };
}

/** Logits that depend only on the last token: row `last` of a table [logitsSize, logitsSize]. */
function tablePolicy(own: Tokenizer, logitsSize: number, score: (last: number, next: number) => number): Policy {
  const values = Float32Array.from({ length: logitsSize ** 2 }, (_, i) =>
    score(Math.floor(i / logitsSize), i % logitsSize),
  );
  const table = tf.variable(tf.tensor2d(values, [logitsSize, logitsSize]), true);
  return definePolicy({
    tokenizer: own,
    logitsSize,
    variables: { table },
    logits: ({ sequences, length, tokens }, from = 0) =>
      tf.tidy(() => {
        const ids = Array.from({ length: sequences }, (_, b) => [
          ...tokens.subarray(b * length + from, (b + 1) * length),
        ]);
        return tf.gather(table, tf.tensor1d(ids.flat(), 'int32')) as tf.Tensor2D;
      }),
  });
}

function wordTask(examples: Partial<Example>[], change: Partial<Task> = {}): Task {
  return {
    name: 'words',
    size: examples.length,
    example: (i) => ({ prompt: 'ab', answer: 'c', solution: 'c', difficulty: 0, ...examples[i] }),
    score: (text, { answer }) => (text === answer ? 1 : 0),
    ...change,
  };
}

const none = { promptLength: null, maxTokens: null };
const rendering = (seen: unknown[][] = []) => ({
  render: async (chats: readonly (readonly { content?: unknown }[])[]) => {
    seen.push([...chats]);
    return chats.map((messages) => messages.map(({ content }) => content).join(''));
  },
});

describe('tasks as tokens', () => {
  before(() => startBackend(quickBackend));

  test('sizes come from options, then from the task if it bounds tokens, then from defaults', () => {
    const bounded = wordTask([{}], { maxPromptLength: 5, maxSolutionLength: 7 });
    const characters = definePolicy({ vocabulary: letters, variables: variable(), logits: () => tf.zeros([1, 9]) });
    const own = definePolicy({ tokenizer: tokenizer(), variables: variable(), logits: () => tf.zeros([1, 13]) });
    const sizes = (...args: Parameters<typeof tokenTask>) => {
      const { promptLength, maxTokens } = tokenTask(...args);
      return [promptLength, maxTokens];
    };
    assert.deepEqual(sizes(bounded, characters, none), [5, 8]);
    assert.deepEqual(sizes(bounded, own, none), [512, 8]);
    assert.deepEqual(sizes(wordTask([{}]), characters, none), [512, 256]);
    assert.deepEqual(sizes(bounded, own, { promptLength: 3, maxTokens: 4 }), [3, 4]);
    for (const policy of [characters, own]) policy.dispose();
  });

  test('prompts get special tokens, chats what their template writes', async () => {
    const seen: unknown[][] = [];
    const policy = tablePolicy(tokenizer({ chat: rendering(seen) }), 13, () => 0);
    const messages = [
      { role: 'user', content: 'cd' },
      { role: 'assistant', content: 'e' },
    ];
    const task = wordTask([{}, { messages }, { prompt: 'h' }, { messages: messages.slice(1) }]);
    const examples = [0, 1, 2, 3].map((i) => task.example(i));
    const prompts = await encodePrompts(tokenTask(task, policy, none), examples);
    assert.deepEqual(
      prompts.map((ids) => [...ids]),
      [[begin, 1, 2], [3, 4, 5], [begin, 8], [5]],
    );
    assert.deepEqual(seen, [[messages, messages.slice(1)]]);
    policy.dispose();
  });

  test('chats without a template and prompts that are too long are rejected before the run begins', async (t) => {
    const refused = async (task: Task, error: object) => {
      const policy = tablePolicy(tokenizer(), 13, () => 0);
      t.after(() => policy.dispose());
      await assert.rejects(createTrainer({ policy, train: task, sampling: { promptLength: 4 } }), error);
    };
    await refused(wordTask([{}, { prompt: 'e', messages: [{ role: 'user', content: 'x' }] }]), {
      name: 'RangeError',
      message: 'words, messages of "e": expected a policy with a chat template, got one without',
    });
    await refused(wordTask([{}, {}, { prompt: 'abcde' }]), {
      name: 'RangeError',
      message: 'words, prompt: expected 1 to 4 tokens (sampling.promptLength), got 6 in "abcde"',
    });
  });

  test('any end token ends a completion, its text has neither that nor special tokens, and no id beyond the tokenizer is sampled', async () => {
    // After b: c, then the special token, then either end. The logits beyond the vocabulary are the largest.
    const next: Record<number, number> = { 2: 3, 3: special, [special]: 10, 4: 11 };
    const policy = tablePolicy(tokenizer(), 16, (last, id) => (id >= 13 ? 50 : next[last] === id ? 40 : 0));
    const task = wordTask([{}, { prompt: 'd' }]);
    const words = tokenTask(task, policy, { promptLength: 4, maxTokens: 5 });
    for (const temperature of [0, 1]) {
      const options = { groupSize: 3, temperature, seed: 1, step: 1 };
      const groups = await sampleGroups(policy, words, [task.example(0), task.example(1)], options);
      const [first, second] = groups.map(({ completions }) => completions);
      for (const { tokens, text, truncated, logProbs, score } of first) {
        assert.deepEqual([...tokens], [3, special, 10]);
        assert.deepEqual([text, truncated, score], ['c', false, 1]);
        // Over all logits: the three beyond the vocabulary have nearly all of the probability.
        for (const logProb of logProbs) assert.ok(Math.abs(logProb - (-10 - Math.log(3))) < 1e-3, String(logProb));
      }
      for (const { tokens, text } of second) assert.deepEqual([[...tokens], text], [[11], '']);
    }
    const { correct } = await evaluate(policy, words, [task.example(0), task.example(1)]);
    assert.equal(correct, 1);
    policy.dispose();
  });

  test('a policy with a tokenizer learns, first from solutions with its end token', async (t) => {
    const policy = tablePolicy(tokenizer(), 13, () => 0);
    const train = wordTask([{ answer: 'c', solution: 'c' }]);
    const trainer = await createTrainer({
      policy,
      train,
      promptsPerStep: 2,
      groupSize: 4,
      sampling: { maxTokens: 3, promptLength: 3 },
      warmStart: { steps: 60, batchSize: 4, until: 1, every: 10, problems: 2, optimizer: { learningRate: 0.2 } },
      optimizer: { learningRate: 0.1 },
      runDir: temporaryFolder(t),
    });
    await trainer.run({ max: 2, output: null });
    const words = tokenTask(train, policy, { promptLength: 3, maxTokens: 3 });
    const greedy = { groupSize: 1, temperature: 0, seed: 0, step: 0 };
    const [{ completions }] = await sampleGroups(policy, words, [train.example(0)], greedy);
    assert.deepEqual([...completions[0].tokens], [3, endToken]);
    trainer.dispose();
    policy.dispose();
  });

  test('an invalid tokenizer is rejected by name', () => {
    const refused = (change: object, name: string, message: string) => {
      const given = { tokenizer: tokenizer(), variables: variable(), logits: () => tf.zeros([1, 13]), ...change };
      assert.throws(() => definePolicy(given as never), { name, message });
      tf.dispose(given.variables);
    };
    const own = (change: object) => ({ tokenizer: { ...tokenizer(), ...change } });
    refused({ tokenizer: 7 }, 'TypeError', 'policy.tokenizer: expected an object, got 7');
    refused(
      own({ vocabularySize: 0 }),
      'RangeError',
      'policy.tokenizer.vocabularySize: expected an integer at least 1, got 0',
    );
    refused(own({ endTokens: 3 }), 'TypeError', 'policy.tokenizer.endTokens: expected an array of token ids, got 3');
    refused(
      own({ endTokens: [1, 13] }),
      'RangeError',
      'policy.tokenizer.endTokens[1]: expected an integer at least 0 and below 13, got 13',
    );
    refused(own({ encode: undefined }), 'TypeError', 'policy.tokenizer.encode: expected a function, got nothing');
    refused({ logitsSize: 12 }, 'RangeError', 'policy.logitsSize: expected an integer at least 13, got 12');
    refused(
      { vocabulary: 'ab' },
      'TypeError',
      'policy.vocabulary: expected nothing if policy.tokenizer is given, got "ab"',
    );
  });

  test('a tokenizer that returns invalid ids is rejected when they occur', async () => {
    for (const [ids, name] of [
      [[[1]], 'TypeError'],
      [[Int32Array.of(13)], 'RangeError'],
      [[], 'TypeError'],
    ] as const) {
      const policy = tablePolicy(tokenizer({ encode: async () => ids as never }), 13, () => 0);
      const task = wordTask([{}]);
      await assert.rejects(encodePrompts(tokenTask(task, policy, none), [task.example(0)]), {
        name,
        message: /^words, prompt "ab": policy\.tokenizer\.encode\(\["ab"\]\): expected /,
      });
      policy.dispose();
    }
  });
});

test("a vocabulary's tokenizer has its ids and its text, at once and when streamed", async () => {
  const vocabulary = characterVocabulary(tinyTask.characters);
  const own = vocabularyTokenizer(vocabulary);
  assert.deepEqual([own.vocabularySize, own.endTokens, own.paddingToken], [vocabulary.size, [0], null]);
  const [ids] = await own.encode(['1+2=3']);
  assert.deepEqual(ids, vocabulary.encode('1+2=3'));
  assert.equal(own.decode([...ids, 0, ...ids]), '1+2=3');
  const stream = own.stream();
  assert.deepEqual(
    [...[...ids, 0, 1].map((id) => stream.push(id)), stream.end()],
    ['1', '+', '2', '=', '3', '', '', ''],
  );
});

function variable() {
  return { some: tf.variable(tf.zeros([1])) };
}
