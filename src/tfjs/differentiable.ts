// Passes a gradient that was computed together with the loss to TensorFlow.js's tape. tfjs frees an operation's saved tensors
// only in the backward pass, which never runs if the differentiated function throws; so nothing is saved that way here.

import * as tf from '@tensorflow/tfjs-core';
import type { Differentiated } from './batch.js';

/** A scalar whose gradient with respect to `x` was computed together with its value. */
export function differentiable(x: tf.Tensor, compute: (x: tf.Tensor) => Differentiated): tf.Scalar {
  return differentiableInAll([x], (tensor) => {
    const { loss, gradient } = compute(tensor);
    return { loss, gradients: [gradient] };
  });
}

/** A scalar whose gradients with respect to `inputs` were computed together with its value, in the same order. */
export function differentiableInAll(
  inputs: readonly tf.Tensor[],
  compute: (...inputs: tf.Tensor[]) => { loss: tf.Scalar; gradients: readonly (tf.Tensor | Float32Array)[] },
): tf.Scalar {
  const operation = tf.customGrad((...given) => {
    const { loss, gradients } = compute(...(given.slice(0, inputs.length) as tf.Tensor[]));
    for (const gradient of gradients) if (gradient instanceof tf.Tensor) holdForBackward(gradient);
    const gradFunc = (dy: tf.Tensor) => {
      // Nearly always 1: reading one number is cheaper than another pass over the gradient.
      const upstream = dy.dataSync()[0];
      return gradients.map((gradient, i) => {
        const { shape } = inputs[i];
        const held = gradient instanceof tf.Tensor ? gradient : tf.tensor(gradient, shape as number[], 'float32');
        const result = upstream === 1 ? tf.clone(held) : tf.mul(held, upstream);
        // An inner tape may be replayed.
        if (tf.engine().state.gradientDepth === 0) held.dispose();
        return result;
      });
    };
    return { value: loss, gradFunc };
  });
  return operation(...inputs) as tf.Scalar;
}

/**
 * Keeps a tensor of an operation's own scope for the backward pass, which frees it. If there is no backward pass, it is freed
 * with the scope around both passes, which `tf.grad` and `tf.grads` open, or without such a scope (`tf.variableGrads`) when the
 * current synchronous code has finished.
 */
function holdForBackward(tensor: tf.Tensor): void {
  const { scopeStack, activeScope, gradientDepth, kernelDepth } = tf.engine().state;
  // Without a tape, or inside another operation, which the tape does not record, there is no backward pass.
  if (gradientDepth === 0 || kernelDepth > 1) return;
  const around = scopeStack[scopeStack.findIndex(({ name }) => name === forwardScope) - 1];
  const place = activeScope.track.lastIndexOf(tensor);
  if (around !== undefined && place >= 0) {
    activeScope.track.splice(place, 1);
    around.track.push(tensor);
  } else {
    tf.keep(tensor);
    queueMicrotask(() => tensor.dispose());
  }
}

/** The scope in which tfjs runs the function that it differentiates. */
const forwardScope = 'forward';
