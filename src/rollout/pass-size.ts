// Bounds the size of one pass through a policy: a pass cannot be interrupted, and signals have to wait until it ends.

import type { Policy } from '../model/policy.js';

/**
 * Maximum parameters times positions. A forward and backward pass takes about 6 floating-point operations for each: here 24 billion,
 * about 2 s on one core with the WebAssembly backend. The forward pass is a third of that.
 */
export const maxWork = { 'forward and backward': 4e9, forward: 12e9 } as const;

/** The largest number of positions for one pass. The same on every backend and machine. */
export function positionsPerPass(policy: Policy, pass: keyof typeof maxWork): number {
  const parameters = policy.weightCount ?? Object.values(policy.variables).reduce((sum, { size }) => sum + size, 0);
  return Math.floor(maxWork[pass] / parameters);
}

/** The largest number of sequences of `length` positions for one pass, at least 1. */
export function sequencesPerPass(policy: Policy, length: number, pass: keyof typeof maxWork): number {
  return Math.max(1, Math.floor(positionsPerPass(policy, pass) / length));
}
