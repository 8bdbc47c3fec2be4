// One update of a policy: the gradient of a loss, accumulated over micro-batches and processes and clipped to a global norm, and a
// step of the optimizer.

import * as tf from '@tensorflow/tfjs-core';
import { NumericFault } from '../base/numeric-fault.js';
import { yieldToEventLoop } from '../base/yield.js';
import { fusedKernel } from '../model/part.js';
import type { Policy } from '../model/policy.js';
import { Processes } from '../processes/processes.js';
import type { AdamW, Variables } from './adamw.js';

export interface UpdateResult {
  loss: number;
  /** Norm of the gradient of all variables together, before clipping. */
  gradientNorm: number;
  /** Seconds. */
  forwardBackward: number;
  optimizer: number;
}

/**
 * Differentiates a sum of scalar losses, those of other processes too, with respect to the policy's variables and updates them. A
 * gradient whose norm is larger than the optimizer's `maxGradientNorm` is scaled down to it. Afterwards all processes have the
 * variables of the first, to the last bit. No update is made if this throws: NumericFault if the loss or the gradient is not finite,
 * the signal's reason if it aborts.
 */
export async function updatePolicy(
  policy: Policy,
  optimizer: AdamW,
  losses: readonly (() => tf.Scalar)[],
  { processes = new Processes(), signal }: { processes?: Processes; signal?: AbortSignal } = {},
): Promise<UpdateResult> {
  const start = performance.now();
  let gradients: Record<string, tf.Tensor> = {};
  let loss = 0;
  try {
    for (const microBatch of losses) {
      const own = differentiate(policy, microBatch);
      loss += own.loss;
      gradients = add(gradients, own.gradients);
      await yieldToEventLoop(signal);
    }
    if (processes.size > 1) [gradients, loss] = await sumOverProcesses(policy, gradients, loss, processes);
    const norm = globalNorm(Object.values(gradients));
    if (!Number.isFinite(loss) || !Number.isFinite(norm)) {
      throw new NumericFault(`expected a finite loss and gradient, got a loss of ${loss} and a norm of ${norm}`);
    }
    const middle = performance.now();
    const { maxGradientNorm } = optimizer.settings;
    optimizer.update(gradients, norm > maxGradientNorm ? maxGradientNorm / norm : 1);
    if (processes.size > 1) await copyFirst(policy.variables, processes);
    const end = performance.now();
    return { loss, gradientNorm: norm, forwardBackward: (middle - start) / 1e3, optimizer: (end - middle) / 1e3 };
  } finally {
    tf.dispose(gradients);
  }
}

function differentiate(policy: Policy, loss: () => tf.Scalar): { loss: number; gradients: Record<string, tf.Tensor> } {
  const { value, grads } = onTape(() => tf.variableGrads(loss, Object.values(policy.variables)));
  try {
    // tfjs returns gradients under its own names of the variables, and none for a variable that the loss does not depend on.
    const entries = Object.entries(policy.variables).map(([name, variable]) => [name, grads[variable.name]] as const);
    return { loss: value.dataSync()[0], gradients: Object.fromEntries(entries.filter(([, gradient]) => gradient)) };
  } catch (error) {
    tf.dispose(grads);
    throw error;
  } finally {
    value.dispose();
  }
}

/** tfjs frees the tensors saved for a backward pass only in that pass; this frees them if an exception prevents it. */
function onTape<T>(differentiate: () => T): T {
  try {
    return differentiate();
  } catch (error) {
    const { state } = tf.engine();
    for (const { saved } of state.activeTape ?? []) tf.dispose(saved);
    state.activeTape = [];
    throw error;
  }
}

/** The sums over all processes, in place of a process's own gradients, which it frees. */
async function sumOverProcesses(
  { variables }: Policy,
  own: Record<string, tf.Tensor>,
  loss: number,
  processes: Processes,
): Promise<[gradients: Record<string, tf.Tensor>, loss: number]> {
  const all = await processes.gather('gradient', { names: Object.keys(own), loss });
  // A variable that no loss depends on has no gradient, which is not the same as one of zeros.
  const names = Object.keys(variables).filter((name) => all.some((each) => each.names.includes(name)));
  const sums: Record<string, tf.Tensor> = {};
  try {
    for (const name of names) {
      const { shape, size } = variables[name];
      const values = own[name] ? await own[name].data<'float32'>() : new Float32Array(size);
      // A backend's own memory is not to be written.
      const sum = values.slice();
      await processes.sum(sum);
      sums[name] = tf.tensor(sum, shape as number[], 'float32');
    }
  } catch (error) {
    tf.dispose(sums);
    throw error;
  }
  tf.dispose(own);
  return [sums, all.reduce((total, each) => total + each.loss, 0)];
}

/** Gives variables the values that they have in the first process. */
export async function copyFirst(variables: Variables, processes: Processes): Promise<void> {
  await processes.gather('weights', null);
  for (const variable of Object.values(variables)) {
    const values = variable.dataSync<'float32'>().slice();
    await processes.copyFirst(values);
    const copy = tf.tensor(values, variable.shape as number[], 'float32');
    variable.assign(copy);
    copy.dispose();
  }
}

/** Sums by name; frees its arguments. */
function add(total: Record<string, tf.Tensor>, more: Readonly<Record<string, tf.Tensor>>): Record<string, tf.Tensor> {
  for (const [name, gradient] of Object.entries(more)) {
    const before = total[name];
    if (before === undefined) total[name] = gradient;
    else {
      total[name] = tf.add(before, gradient);
      tf.dispose([before, gradient]);
    }
  }
  return total;
}

/**
 * The root of the sum of the squares of all values. Needs memory for the squares of one tensor at a time.
 *
 * Fused kernel: `groupgrad.globalNorm` (the tensors by their numbers) → the norm, a scalar.
 */
export function globalNorm(tensors: readonly tf.Tensor[]): number {
  const fused = fusedKernel('groupgrad.globalNorm');
  const norm = fused
    ? fused(Object.fromEntries(tensors.entries()), {})[0]
    : tf.tidy(() => tf.sqrt(tf.addN(tensors.map((tensor) => tf.tidy(() => tf.sum(tf.square(tensor)))))));
  const [value] = norm.dataSync();
  norm.dispose();
  return value;
}
