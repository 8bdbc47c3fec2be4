// Rewards by name: their value for each completion, and the options that they reject.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Example, type Reward, type RewardInput, rewards } from 'groupgrad';

function input(
  text: string,
  changes: { tokens?: number; truncated?: boolean; answer?: string; score?: number } = {},
): RewardInput {
  const { tokens = 10, truncated = false, answer = '1/4', score = 0 } = changes;
  return {
    prompt: 'p',
    completion: { text, tokens: new Int32Array(tokens), truncated },
    example: { prompt: 'p', answer, solution: answer, difficulty: 1 },
    score,
    signal: new AbortController().signal,
  };
}
const of = async (reward: Reward<Example>, ...about: Parameters<typeof input>) => reward.judge(input(...about));

test('graders give 1 for a right answer, 0 for a wrong one and for a truncated completion', async () => {
  const table: [Reward<Example>, right: string, wrong: string, answer: string][] = [
    [rewards.maths(), '\\boxed{0.25}', '\\boxed{0.5}', '1/4'],
    [rewards.gsm8k(), '#### 18', '#### 19', 'because … #### 18'],
    [rewards.number(), 'So 18.', 'So 19.', '18'],
    [rewards.choice(), 'The answer is (B).', 'The answer is (C).', 'B'],
    [rewards.exact(), 'cab', 'bac', 'cab'],
    [rewards.regex(/^\d+$/), '12', '12a', ''],
    [rewards.json({ type: 'array' }), '[1]', '{}', ''],
    [rewards.format({ pattern: /^a+$/ }), 'aa', 'ab', ''],
    [rewards.format(), '<think>so</think>5', '5', ''],
  ];
  for (const [reward, right, wrong, answer] of table) {
    assert.equal(await of(reward, right, { answer }), 1, reward.name);
    assert.equal(await of(reward, wrong, { answer }), 0, reward.name);
    assert.equal(await of(reward, right, { answer, truncated: true }), 0, reward.name);
  }
});

test('the right answer and the choices may be in other fields of the example', async () => {
  const maths = rewards.maths({ gold: ({ solution }) => solution.toUpperCase() });
  assert.equal(await of(maths, '\\boxed{X}', { answer: 'x' }), 1);
  const choice = rewards.choice({ choices: () => ['Rome', 'Paris'] });
  assert.equal(await of(choice, '\\boxed{Paris}', { answer: 'B' }), 1);
});

test('format requires each think tag once, with text within and after', async () => {
  const format = rewards.format();
  for (const text of ['<think>a</think>b', '\n<think>a</think>\n\nb']) assert.equal(await of(format, text), 1, text);
  const wrong = [
    '<think></think>b',
    '<think>a</think>',
    '<think>a',
    'a</think>b',
    'x<think>a</think>b',
    '<think>a<think>b</think>c',
    '<think>a</think>b</think>c',
    '</think>a<think>b',
    '',
  ];
  for (const text of wrong) assert.equal(await of(format, text), 0, text);
  const opened = rewards.format({ opened: true });
  assert.equal(await of(opened, 'a</think>b'), 1);
  assert.equal(await of(opened, '<think>a</think>b'), 0);
});

test('overlong is 0, then falls to -1 over the buffer', async () => {
  const overlong = rewards.overlong({ maxTokens: 100, buffer: 20 });
  const found = await Promise.all([1, 80, 81, 90, 100, 150].map((tokens) => of(overlong, '', { tokens })));
  assert.deepEqual(found, [0, 0, -0.05, -0.5, -1, -1]);
});

test('cosine goes from the short to the long reward, separately for right and wrong answers', async () => {
  const cosine = rewards.cosine({ maxTokens: 100 });
  assert.equal(await of(cosine, '', { tokens: 0, score: 1 }), 2);
  assert.equal(await of(cosine, '', { tokens: 50, score: 1 }), 1.5);
  assert.equal(await of(cosine, '', { tokens: 0, score: 0 }), -10);
  assert.equal(await of(cosine, '', { tokens: 50, score: 0 }), -5);
  assert.equal(await of(cosine, '', { tokens: 100, score: 1 }), -10);
  assert.equal(await of(cosine, '', { tokens: 5, score: 1, truncated: true }), -10);
  const own = rewards.cosine({
    maxTokens: 100,
    right: [1, 0],
    wrong: [0, 0],
    exceeded: -1,
    judge: ({ completion }) => Number(completion.text === 'a'),
  });
  assert.deepEqual(
    [await of(own, 'a', { tokens: 0 }), await of(own, 'b', { tokens: 0 }), await of(own, 'a', { tokens: 200 })],
    [1, 0, -1],
  );
});

test('repetition grows with the share of repeated n-grams', async () => {
  const repetition = rewards.repetition();
  assert.equal(await of(repetition, 'one two three four five'), 0);
  assert.equal(await of(repetition, 'one two'), 0);
  // N-grams of three: (a a a) four times, three of them repeated.
  assert.equal(await of(repetition, 'a A a a a a'), -0.75);
  assert.equal(await of(rewards.repetition({ size: 1, penalty: -2 }), 'a b a b'), -1);
});

test('impossible options are errors that name their field', () => {
  assert.throws(() => rewards.overlong({ maxTokens: 10, buffer: 11 }), /^RangeError: options\.buffer/);
  assert.throws(() => rewards.overlong({ maxTokens: 10 } as never), /^TypeError: options\.buffer/);
  assert.throws(
    () => rewards.cosine({ maxTokens: 10, right: [1] as never }),
    /^RangeError: options\.right: expected two numbers/,
  );
  assert.throws(() => rewards.repetition({ penalty: 1 }), /^RangeError: options\.penalty/);
  assert.throws(() => rewards.format({ patern: /a/ } as never), /options\.patern: unknown field/);
  assert.throws(() => rewards.format({ pattern: /a/, opened: true }), /options\.opened/);
  assert.throws(() => rewards.maths({ gold: 'x' as never }), /^TypeError: options\.gold: expected a function/);
  assert.throws(() => rewards.maths({ tolerance: 2 }), /^RangeError: options\.tolerance/);
  assert.throws(() => rewards.gsm8k({ tolerence: 0 } as never), /options\.tolerence: unknown field/);
  assert.throws(() => rewards.exact({ caseSensitive: 1 as never }), /^TypeError: options\.caseSensitive/);
  assert.throws(() => rewards.choice({ choices: ['a'] as never }), /^TypeError: options\.choices: expected a function/);
  assert.throws(() => rewards.regex('('), /^RangeError: pattern/);
  assert.throws(() => rewards.json({ type: 'float' }), /schema\.type/);
  assert.throws(() => rewards.maths({}, { weight: 'x' as never }), /weight/);
});

test('the last argument is that of defineReward', () => {
  const reward = rewards.maths({}, { weight: 2, onError: 'zero' });
  assert.deepEqual([reward.name, reward.weight, reward.onError], ['maths', 2, 'zero']);
});
