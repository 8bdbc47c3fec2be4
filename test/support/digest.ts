// All results of a series of random calls on the cpu device as one digest: equal digests are equal bits.

import { createHash } from 'node:crypto';
import { computeAdvantages, logitsLoss, policyLoss } from '../../src/index.js';
import { drawLogits, drawPolicy } from './draw.js';
import { fill, seeded } from './random.js';

export interface Series {
  seed: number;
  /** Calls of each function. */
  calls: number;
}

export function digestOf({ seed, calls }: Series): string {
  const hash = createHash('sha256');
  const add = (values: Float32Array | Uint16Array | Uint8Array | undefined) => values && hash.update(values);
  const numbers = (values: object) => hash.update(JSON.stringify(values));
  for (let i = 0; i < calls; i++) {
    const random = seeded(seed + i);
    const policy = drawPolicy(random);
    const p = policyLoss(policy.input, policy.config, { ...policy.options, device: 'cpu' });
    add(p.gradLogProbs);
    numbers([p.loss, p.metrics]);
    const logits = drawLogits(random);
    const l = logitsLoss(logits.input, logits.config, { ...logits.options, device: 'cpu' });
    for (const array of [l.gradLogits, l.logProbs, l.entropies]) add(array);
    numbers([l.loss, l.metrics]);
    const rewards = Array.from({ length: 12 }, () => random.integer(0, 1));
    const a = computeAdvantages(rewards, { groupSize: 4, hadw: { anchor: 0.5 } }, { device: 'cpu' });
    for (const array of [a.advantages, a.weights, a.groupMean, a.groupStd, a.active]) add(array);
  }
  add(largeGradient(seed));
  return hash.digest('hex');
}

/** A loss that is large enough for the device's own threads. */
export function largeGradient(seed: number): Float32Array {
  const random = seeded(seed);
  const [sequences, length, vocab] = [4, 8, 8000];
  const input = {
    shape: { sequences, length, vocab },
    logits: fill(sequences * length * vocab, () => random.uniform(-4, 4)),
    tokens: Int32Array.from({ length: sequences * length }, () => random.integer(0, vocab - 1)),
    advantages: fill(sequences, () => random.normal()),
  };
  return logitsLoss(input, { surrogate: { kind: 'clip', low: 0.2, high: 0.2 } }, { device: 'cpu' }).gradLogits;
}
