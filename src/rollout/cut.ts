// Truncates a distribution to its most likely tokens: by number (top-k), by cumulative probability (top-p), or by probability
// relative to the most likely token (min-p).

import type { Cut } from './engine.js';

/**
 * The ids below `allowed` that a truncation keeps, ascending. As in transformers: first top-k, then top-p of the remaining ids,
 * then min-p. Of equally likely ids the lower ones are kept; ids with probability 0 never are.
 */
export function keptTokens(
  probabilities: Float32Array,
  allowed: number,
  { topK, topP = 1, minP = 0 }: Cut,
): Int32Array {
  const most = topK ?? allowed;
  const candidates = mostLikely(probabilities, allowed, most, topK === undefined ? topP : 1);
  candidates.sort((a, b) => probabilities[b] - probabilities[a] || a - b);
  let kept = Math.min(candidates.length, most);
  if (topP < 1) {
    let share = topP * (topK === undefined ? sumBelow(probabilities, allowed) : sumOf(probabilities, candidates, kept));
    const limit = kept;
    for (kept = 0; kept < limit && (kept === 0 || share > 0); kept++) share -= probabilities[candidates[kept]];
  }
  const least = minP * probabilities[candidates[0]];
  while (kept > 1 && probabilities[candidates[kept - 1]] < least) kept--;
  return candidates.subarray(0, kept).sort();
}

/**
 * A superset of the `count` most likely ids and of the most likely ids that together have the probability `share`: all ids
 * with at least a certain power of two as their probability. It avoids sorting the whole vocabulary.
 */
function mostLikely(probabilities: Float32Array, allowed: number, count: number, share: number): Int32Array {
  const exponents = new Int32Array(probabilities.buffer, probabilities.byteOffset, allowed);
  const counts = new Int32Array(256);
  const sums = new Float64Array(256);
  let total = 0;
  for (let id = 0; id < allowed; id++) {
    const p = probabilities[id];
    if (!(p > 0)) continue;
    const exponent = exponents[id] >>> 23;
    counts[exponent]++;
    sums[exponent] += p;
    total += p;
  }
  let [least, found, sum] = [256, 0, 0];
  // These sums run in another order than the caller's: with a share of nearly 1, all ids are returned.
  const enough = share < 1 - 1e-9 ? share * total * (1 + 1e-9) : Infinity;
  while (least > 0 && found < count && sum < enough) {
    least--;
    found += counts[least];
    sum += sums[least];
  }
  const ids = new Int32Array(found);
  let next = 0;
  for (let id = 0; id < allowed; id++) {
    if (probabilities[id] > 0 && exponents[id] >>> 23 >= least) ids[next++] = id;
  }
  return ids;
}

function sumBelow(values: Float32Array, end: number): number {
  let sum = 0;
  for (let i = 0; i < end; i++) sum += values[i];
  return sum;
}

function sumOf(values: Float32Array, indices: Int32Array, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += values[indices[i]];
  return sum;
}
