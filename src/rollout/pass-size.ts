// Bounds the size of one pass through a policy: a pass cannot be interrupted, and signals have to wait until it ends.

import { engineBackend } from '../backend/current.js';
import type { Policy } from '../model/policy.js';

/**
 * Maximum parameters times positions. A forward and backward pass takes about 6 floating-point operations for each: here 24 billion,
 * about 2 s on one core with the WebAssembly backend. The forward pass is a third of that.
 */
export const maxWork = { 'forward and backward': 4e9, forward: 12e9 } as const;

/**
 * On the backend groupgrad a pass takes more work until it has `positions`: a pass reads all weights, and adds up their gradients
 * where they are trained. Beyond these positions a larger pass saves only a few per cent and takes more memory. The work is about 12 s
 * on two cores with AVX-512, less than the default grace period.
 */
export const engineMaximum = {
  work: { 'forward and backward': 300e9, forward: 900e9 },
  positions: 2048,
} as const;

/** The largest number of positions for one pass. The same on every machine, so that a run does not depend on it. */
export function positionsPerPass(policy: Policy, pass: keyof typeof maxWork): number {
  const parameters = parametersOf(policy);
  const usual = Math.floor(maxWork[pass] / parameters);
  if (!engineBackend()) return usual;
  return Math.max(usual, Math.min(engineMaximum.positions, Math.floor(engineMaximum.work[pass] / parameters)));
}

/** The largest number of sequences of `length` positions for one pass, at least 1. */
export function sequencesPerPass(policy: Policy, length: number, pass: keyof typeof maxWork): number {
  return Math.max(1, Math.floor(positionsPerPass(policy, pass) / length));
}

/** The largest number of sequences that are decoded together, at least 1. The same on every backend: their caches take memory. */
export function sequencesPerDecodingStep(policy: Policy): number {
  return Math.max(1, Math.floor(maxWork.forward / parametersOf(policy)));
}

function parametersOf(policy: Policy): number {
  return policy.weightCount ?? Object.values(policy.variables).reduce((sum, { size }) => sum + size, 0);
}
