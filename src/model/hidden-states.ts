// The factors of a policy's logits, from which the trainer computes logits in chunks if there are too many to be in memory at
// once.

import * as tf from '@tensorflow/tfjs-core';
import { type Adapter, adapterStates } from './linear.js';
import { batchContext, finalStates, forward, unembeddingName } from './model.js';
import { asModule, linearOf, type ModelWeights, trainedOf } from './parameters.js';
import { differentiable } from './part.js';
import type { HiddenStates, SequenceBatch } from './policy.js';

/** See `Policy.hidden`. */
export function hiddenStates(model: ModelWeights, batch: SequenceBatch, from: number): HiddenStates {
  const { sequences, tokens } = batch;
  const { precision, shape } = model;
  const name = unembeddingName(shape);
  const { finalSoftCap } = shape;
  const { weight, adapter } = linearOf(model, name);
  const states = tf.tidy(() =>
    finalStates(model, forward(model, tokens, batchContext(model, batch)), { sequences, from }),
  );
  return {
    states,
    unembedding: weight,
    trainsUnembedding: model.trained.has(name),
    ...(adapter && { adapter: { states: lowStates(model, name, states, adapter), unembedding: adapter.b } }),
    precision,
    ...(finalSoftCap !== null && { softCap: finalSoftCap }),
  };
}

function lowStates(model: ModelWeights, name: string, x: tf.Tensor2D, adapter: Adapter): tf.Tensor2D {
  const { precision } = model;
  const trained = trainedOf(model, `${name}.lora_A`);
  return tf.tidy(() =>
    differentiable({ x, wantsX: true, trained, constants: {}, recompute: false, precision }, (given, _, keep) =>
      asModule(name, adapterStates(given!, adapter, keep)),
    ),
  );
}
