// Whether a run learns, from its metrics.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { readLines } from './trainer.js';

/** Steps at either end of a run whose mean accuracies are compared. */
const steps = 5;
/**
 * A rise that is not chance: a mean over five steps of at least 200 completions each has a standard error below 1.6
 * percentage points, or twice that if the completions of each prompt are all right or all wrong.
 */
const least = 0.04;

/** Fails unless the accuracy of the last steps is well above that of the first. Returns both. */
export function assertLearns(runDir: string): { before: number; after: number } {
  const lines = readLines(join(runDir, 'metrics.jsonl')).filter(({ step }) => (step as number) > 0);
  assert.ok(lines.length >= 2 * steps, `${runDir}: ${lines.length} steps`);
  const mean = (some: typeof lines) => some.reduce((sum, { accuracy }) => sum + (accuracy as number), 0) / some.length;
  const [before, after] = [mean(lines.slice(0, steps)), mean(lines.slice(-steps))];
  assert.ok(after > before + least, `${runDir}: accuracy ${before.toFixed(3)} at first, ${after.toFixed(3)} at last`);
  return { before, after };
}
