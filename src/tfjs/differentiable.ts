// Hands a gradient that was computed together with the loss to TensorFlow.js's tape.

import * as tf from '@tensorflow/tfjs-core';
import type { Differentiated } from './batch.js';

/** A scalar whose gradient with respect to `x` was computed together with its value. */
export function differentiable(x: tf.Tensor, compute: (x: tf.Tensor) => Differentiated): tf.Scalar {
  const operation = tf.customGrad((...inputs) => {
    const [tensor, save] = inputs as unknown as [tf.Tensor, (tensors: tf.Tensor[]) => void];
    const { loss, gradient } = compute(tensor);
    save([gradient]);
    const gradFunc = (dy: tf.Tensor, [saved]: tf.Tensor[]) => {
      // Nearly always 1: reading one number is cheaper than another pass over the gradient.
      const upstream = dy.dataSync()[0];
      return upstream === 1 ? tf.clone(saved) : tf.mul(saved, upstream);
    };
    return { value: loss, gradFunc: gradFunc as (dy: tf.Tensor, saved: tf.Tensor[]) => tf.Tensor };
  });
  return operation(x) as tf.Scalar;
}
