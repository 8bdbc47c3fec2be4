// The schedule of the learning rate.

import type { OptimizerSettings } from './options.js';

/** The learning rate of update number `update`, from 1. */
export function learningRateAt(
  update: number,
  { learningRate, warmupSteps, schedule, totalSteps }: OptimizerSettings,
): number {
  if (update <= warmupSteps) return (learningRate * update) / warmupSteps;
  if (schedule === 'constant') return learningRate;
  const done = Math.min(1, (update - 1 - warmupSteps) / (totalSteps! - warmupSteps));
  return learningRate * (schedule === 'linear' ? 1 - done : (1 + Math.cos(Math.PI * done)) / 2);
}
