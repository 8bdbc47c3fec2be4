// DAPO's loss from logits as a plain single-threaded loop over typed arrays: what one would write without a library.

import type { LogitsInput } from '../../src/index.js';

const low = 0.8;
const high = 1.28;

/** Token-level clipped loss, token mean, one advantage per sequence. Writes the gradient to `gradLogits`. */
export function plainLogitsLoss(input: LogitsInput & { logits: Float32Array }, gradLogits: Float32Array): number {
  const { shape, logits, tokens, oldLogProbs, advantages, mask } = input;
  const { sequences, length, vocab } = shape;
  const rows = sequences * length;
  let count = 0;
  for (let row = 0; row < rows; row++) count += mask === undefined || mask[row] ? 1 : 0;

  let loss = 0;
  for (let row = 0; row < rows; row++) {
    const begin = row * vocab;
    if (mask !== undefined && !mask[row]) {
      gradLogits.fill(0, begin, begin + vocab);
      continue;
    }
    let max = -Infinity;
    for (let j = 0; j < vocab; j++) max = Math.max(max, logits[begin + j]);
    let sum = 0;
    for (let j = 0; j < vocab; j++) sum += Math.exp(logits[begin + j] - max);
    const logProb = logits[begin + tokens[row]] - max - Math.log(sum);
    const ratio = oldLogProbs ? Math.exp(logProb - oldLogProbs[row]) : 1;
    const A = advantages![Math.floor(row / length)];
    const clipped = Math.min(Math.max(ratio, low), high);
    loss -= Math.min(ratio * A, clipped * A) / count;
    const g = ratio * A <= clipped * A ? (-ratio * A) / count : 0;
    for (let j = 0; j < vocab; j++) {
      const p = Math.exp(logits[begin + j] - max) / sum;
      gradLogits[begin + j] = -g * p;
    }
    gradLogits[begin + tokens[row]] += g;
  }
  return loss;
}
