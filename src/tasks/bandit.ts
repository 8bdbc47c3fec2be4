// A ladder of bandits with known success probabilities, for checking estimators: "3:0=" to one of 50 arms, "a" to "X".

import { checkKeys, checkNumber, checkObject, rangeError, typeError } from '../base/check.js';
import { integer, type Stream } from '../base/random.js';
import { checkIndex, checkSize } from './options.js';
import { withSource } from './source.js';
import type { Example, GeneratedTask } from './task.js';

export interface BanditOptions {
  /** Decides which arms win. An integer from 0. */
  seed: number;
  /**
   * One rung each: the probability that an arm drawn uniformly wins, a multiple of 1 / arms above 0 and at most 1.
   * At most 100. Default [.02, .1, .3, .5, .7, .9, .98].
   */
  probabilities?: readonly number[];
  /** From 2 to 50. Default 50. */
  arms?: number;
  /** Prompts of each rung, which differ in the arms that win; at most 10,000. Default 1. */
  contexts?: number;
  /** Number of problems of the list. Default: infinite. */
  size?: number;
}

export interface BanditExample extends Example {
  /** The arms that win. */
  winners: string;
  /** The share of arms that win: the success probability of the uniform policy. */
  probability: number;
}

const armNames = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWX';

/**
 * Every prompt has a fixed set of arms that win; a completion is one arm. A policy's success probability on a prompt is
 * the probability it gives to the winners, so its true value and advantages are known in closed form; for the uniform policy it
 * is the rung's probability. Example i is of rung i mod rungs; the difficulty is the number of arms that lose. One prompt teaches
 * nothing about another, so there is no split.
 */
export function bandit(options: BanditOptions): GeneratedTask<BanditExample> {
  const o = checkObject('options', options);
  checkKeys('', o, ['seed', 'probabilities', 'arms', 'contexts', 'size']);
  const {
    seed,
    probabilities = [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98],
    arms = 50,
    contexts = 1,
    size,
  } = o as unknown as BanditOptions;
  checkNumber('seed', seed, { min: 0, max: Number.MAX_SAFE_INTEGER, integer: true });
  checkNumber('arms', arms, { min: 2, max: armNames.length, integer: true });
  checkNumber('contexts', contexts, { min: 1, max: 10_000, integer: true });
  const winnerCounts = checkProbabilities(probabilities, arms);
  const rungs = winnerCounts.length;
  checkSize(size);
  const names = armNames.slice(0, arms);
  const stream: Stream = { seed, purpose: 'examples' };
  const task: GeneratedTask<BanditExample> = {
    name: `bandit ladder of ${rungs} rungs and ${arms} arms`,
    characters: `0123456789:=${names}`,
    maxPromptLength: String(rungs - 1).length + String(contexts - 1).length + 2,
    maxSolutionLength: 1,
    size,
    example(index) {
      checkIndex(index, size);
      return pose(index % rungs, Math.floor(index / rungs) % contexts);
    },
    parse(prompt) {
      const [, rung, context] = /^(0|[1-9]\d*):(0|[1-9]\d*)=$/.exec(prompt)?.map(Number) ?? [];
      return rung < rungs && context < contexts ? pose(rung, context) : undefined;
    },
    score: (text, { winners }) => (text.length === 1 && winners.includes(text) ? 1 : 0),
  };
  return withSource(task, { seed, probabilities, arms, contexts });

  function pose(rung: number, context: number): BanditExample {
    const winners = drawArms(names, winnerCounts[rung], (below, i) => integer(stream, below, rung, context, i));
    const [answer] = winners;
    return {
      prompt: `${rung}:${context}=`,
      answer,
      solution: answer,
      difficulty: arms - winners.length,
      winners,
      probability: winners.length / arms,
    };
  }
}

/** The number of winning arms of each rung. */
function checkProbabilities(probabilities: unknown, arms: number): number[] {
  const field = 'probabilities';
  if (!Array.isArray(probabilities)) throw typeError(field, 'an array of numbers', probabilities);
  if (probabilities.length === 0 || probabilities.length > 100) {
    throw rangeError(field, '1 to 100 values', String(probabilities.length));
  }
  return probabilities.map((value, i) => {
    const probability = checkNumber(`${field}[${i}]`, value, { above: 0, max: 1 });
    const winners = Math.round(probability * arms);
    if (winners === 0 || Math.abs(winners / arms - probability) > 1e-9) {
      throw rangeError(`${field}[${i}]`, `a multiple of 1/${arms}`, String(probability));
    }
    return winners;
  });
}

/** `count` different arms, in the order of their names. */
function drawArms(names: string, count: number, next: (below: number, i: number) => number): string {
  const left = [...names];
  const drawn = Array.from({ length: count }, (_, i) => left.splice(next(left.length, i), 1)[0]);
  return [...names].filter((name) => drawn.includes(name)).join('');
}
