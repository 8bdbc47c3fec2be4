// Which problems are held out: decided by the problem itself, so that no seed, index or size can move one across.

import { createHash } from 'node:crypto';
import { type Stream, uniform } from '../base/random.js';

export type Split = 'train' | 'held-out';

export const splits = ['train', 'held-out'] as const satisfies readonly Split[];

/** The share of all problems that is held out, unless a data set specifies another. */
export const heldOutShare = 0.2;
/** The split is the same for every seed of a task. */
const splitStream: Stream = { seed: 0, purpose: 'split' };

/** The key by which two examples are the same problem: a string, or at most three integers. */
export type ProblemKey = string | readonly [number, number?, number?];

/** Which split a problem belongs to. The problems held out by a smaller share are a subset of those of a larger one. */
export function splitOf(problem: ProblemKey, share = heldOutShare): Split {
  const [a, b = 0, c = 0] = typeof problem === 'string' ? textKey(problem) : problem;
  return uniform(splitStream, a, b, c) < share ? 'held-out' : 'train';
}

function textKey(text: string): [number, number, number] {
  const digest = createHash('sha256').update(text).digest();
  return [digest.readInt32LE(0), digest.readInt32LE(4), digest.readInt32LE(8)];
}
