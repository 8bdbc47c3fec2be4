// How many sequences one pass of a policy holds: nothing can interrupt a pass, and signals wait for its end.

import type { Policy } from '../policy/policy.js';

/**
 * Parameters times positions of a forward and backward pass: seconds of one core on WebAssembly, where this many are some 24
 * billion floating-point operations. A forward pass alone takes a third.
 */
const mostWork = { 'forward and backward': 4e9, forward: 12e9 } as const;

/** Sequences of `length` positions that a pass holds at most, at least 1: the same for the same policy, whatever it runs on. */
export function sequencesAPass(policy: Policy, length: number, pass: keyof typeof mostWork): number {
  const parameters = Object.values(policy.variables).reduce((sum, { size }) => sum + size, 0);
  return Math.max(1, Math.floor(mostWork[pass] / (parameters * length)));
}
