// Bounds the size of one pass through a policy: a pass cannot be interrupted, and signals have to wait until it ends.

import { engineBackend } from '../backend/current.js';
import type { Policy } from '../model/policy.js';
import { engineMaximum, maxWork } from './pass-bounds.js';

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
