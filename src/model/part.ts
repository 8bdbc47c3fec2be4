// How the transformer's parts are differentiated: each part is a forward function together with its backward function.
// Three reasons: tfjs-core by itself registers no gradients on Node (the tfjs and tfjs-node packages bring them), a part
// keeps only what its backward pass reads, and it needs far fewer operations, whose number is what a small model costs.

import * as tf from '@tensorflow/tfjs-core';

type Tensors = Record<string, tf.Tensor>;

/** The output of a part with inputs I, and its backward function. */
export interface Part<I, S = Tensors> {
  value: tf.Tensor2D;
  /** What the backward function reads besides the weights: tfjs frees everything else that the part made. */
  saved: S;
  /** The gradient of every input, given that of the value. */
  backward(dy: tf.Tensor2D, saved: S): { [K in keyof I]: tf.Tensor };
}

/** Runs a part on its inputs so that tfjs differentiates it by the part's own backward function. */
export function differentiable<I extends { [K in keyof I]: tf.Tensor }, S extends { [K in keyof S]: tf.Tensor }>(
  inputs: I,
  run: (inputs: I) => Part<I, S>,
): tf.Tensor2D {
  const names = Object.keys(inputs) as (keyof I)[];
  const operation = tf.customGrad((...given) => {
    const save = given[names.length] as (tensors: tf.Tensor[]) => void;
    const { value, saved, backward } = run(inputs);
    const savedNames = Object.keys(saved) as (keyof S)[];
    save(Object.values(saved));
    return {
      value,
      gradFunc: (dy: tf.Tensor, kept: tf.Tensor[]) => {
        const restored = Object.fromEntries(savedNames.map((name, i) => [name, kept[i]])) as S;
        const gradients = backward(dy as tf.Tensor2D, restored);
        return names.map((name) => gradients[name]);
      },
    };
  });
  return operation(...Object.values<tf.Tensor>(inputs)) as tf.Tensor2D;
}
