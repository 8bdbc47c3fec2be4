// How the model is differentiated: each primitive is a forward computation together with its backward function. Three
// reasons: tfjs-core by itself registers no gradients on Node (the tfjs and tfjs-node packages do), only the wanted gradients are
// computed, and far fewer operations are needed, whose number dominates the cost of a small model.

import * as tf from '@tensorflow/tfjs-core';
import { currentPrecision, inPrecision } from '../backend/bfloat16.js';
import type { Precision } from '../backend/precision.js';

/** Whether the gradient of an input is wanted, by name. */
export type Wanted = (name: string) => boolean;

/** The wanted gradients, by the names of inputs. */
export type Gradients = Record<string, tf.Tensor>;

/** A value, and a function from its gradient to the gradients of its inputs. */
export interface Computed<T extends tf.Tensor = tf.Tensor2D> {
  /** May be a getter if it is expensive: a backward pass that recomputes a part does not need its value. */
  readonly value: T;
  backward(dy: T, wanted: Wanted): Gradients;
}

/**
 * Marks a tensor that a backward function reads. The backward function must get it from the returned function, because the
 * memory of the forward pass may have been freed by then: the tensor may be a copy, or recomputed.
 */
export type Keep = <T extends tf.Tensor>(tensor: T) => () => T;

export interface PartInputs {
  /** The part's input; its gradient has the name `x`. Omitted for the first part of the model. */
  x?: tf.Tensor2D;
  /** Whether something below the part is trained, so that the gradient of x is wanted. */
  wantsX: boolean;
  /** Weights that are trained, by name. Frozen weights need not be listed, because they outlive the part. */
  trained: Readonly<Record<string, tf.Tensor>>;
  /** Other tensors that the part reads and that may be freed before the backward pass. */
  constants: tf.NamedTensorMap;
  /**
   * True: only x is kept for the backward pass, which recomputes the part: the memory of one part instead of all of them, at the
   * cost of a second forward pass. The gradients are bit-identical.
   */
  recompute: boolean;
  /** Of its products, forward and backward. Default: the backend's setting in the forward pass. */
  precision?: Precision;
}

/** Runs a part so that tfjs differentiates it with the part's own backward function; its temporaries are freed at once. */
export function differentiable(
  { x, wantsX, trained, constants, recompute, precision = currentPrecision() }: PartInputs,
  run: (x: tf.Tensor2D | undefined, constants: tf.NamedTensorMap, keep: Keep) => Computed,
): tf.Tensor2D {
  const inputs: Record<string, tf.Tensor> = wantsX && x ? { x, ...trained } : { ...trained };
  const names = Object.keys(inputs);
  const wanted: Wanted = (name) => Object.hasOwn(inputs, name);
  const again = (saved: readonly tf.Tensor[]) => {
    const restored = Object.keys(constants).map((name, i) => [name, saved[i]] as const);
    return run(saved[restored.length] as tf.Tensor2D | undefined, Object.fromEntries(restored), forget);
  };
  const operation = tf.customGrad((...given) => {
    const save = given[names.length] as unknown as (tensors: tf.Tensor[]) => void;
    const kept = keeper();
    const [part, value] = inPrecision(precision, () => {
      const forward = run(x, constants, recompute ? forget : kept.keep);
      return [forward, forward.value];
    });
    save(recompute ? [...Object.values(constants), ...(x ? [x] : [])] : kept.tensors);
    const gradFunc = (dy: tf.Tensor, saved: tf.Tensor[]) => {
      const gradients = tf.tidy(() => {
        if (!recompute) kept.restore(saved);
        return inPrecision(precision, () => (recompute ? again(saved) : part).backward(dy as tf.Tensor2D, wanted));
      });
      // tfjs would keep them until the end of the whole backward pass.
      tf.dispose(saved);
      return names.map((name) => gradients[name]);
    };
    return { value, gradFunc };
  });
  return operation(...Object.values(inputs)) as tf.Tensor2D;
}

/** For a part whose backward function runs while the tensors still exist. */
export const forget: Keep = (tensor) => () => tensor;

/** Collects the tensors that are kept, each once. */
function keeper(): { keep: Keep; tensors: tf.Tensor[]; restore(tensors: readonly tf.Tensor[]): void } {
  const tensors: tf.Tensor[] = [];
  let held: readonly tf.Tensor[] = tensors;
  return {
    tensors,
    keep: <T extends tf.Tensor>(tensor: T) => {
      const found = tensors.indexOf(tensor);
      const place = found < 0 ? tensors.push(tensor) - 1 : found;
      return () => held[place] as T;
    },
    restore: (saved) => {
      held = saved;
    },
  };
}

/** A fused kernel by name, if the current backend has it. */
export function fusedKernel(
  name: string,
): ((inputs: tf.NamedTensorMap, attributes: Record<string, number | boolean>) => tf.Tensor[]) | undefined {
  if (!tf.getKernel(name, tf.getBackend())) return undefined;
  return (inputs, attributes) => {
    const outputs = tf.engine().runKernel<tf.Tensor | tf.Tensor[]>(name, inputs, attributes);
    return Array.isArray(outputs) ? outputs : [outputs];
  };
}

/** The sum of a tensor's gradients from several paths; undefined if there are none. */
export function sumGradients(gradients: readonly (tf.Tensor | undefined)[]): tf.Tensor2D | undefined {
  const all = gradients.filter((gradient) => gradient !== undefined) as tf.Tensor2D[];
  if (all.length < 2) return all[0];
  return all.length === 2 ? tf.add(all[0], all[1]) : tf.addN(all);
}
