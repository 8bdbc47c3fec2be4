// A run that a server of adapters can take part in: a tiny Llama with an adapter continues beginnings of stories, and learns to
// write the letter o. For tests and for the benchmark of its learning curves.

import { join } from 'node:path';
import { defineReward } from '../../src/index.js';
import type { Task } from '../../src/tasks/index.js';
import { root } from './native.js';

/** A model folder that a checkout does not contain. */
export const stories = join(root, '../shared/models/stories260k');
export const lora = { rank: 4 };

const prompts = ['Tim', 'Lily', 'a dog'].map((who) => `One day, ${who}`);

export const beginnings: Task = {
  name: 'beginnings',
  size: prompts.length,
  example: (i) => ({ prompt: prompts[i], answer: '', solution: '', difficulty: 0 }),
  score: () => 0,
};

/** What the reward counts. */
export const letters = (text: string) => text.split('o').length - 1;
export const lettersReward = defineReward('letters', ({ completion }) => letters(completion.text));

export const settings = {
  promptsPerStep: 3,
  groupSize: 8,
  sampling: { maxTokens: 8, promptLength: 12 },
  hadw: {},
  optimizer: { learningRate: 1e-2 },
};
