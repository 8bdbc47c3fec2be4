// The factors of a policy's logits, from which the trainer computes logits in chunks if there are too many to be in memory at
// once.

import * as tf from '@tensorflow/tfjs-core';
import { batchContext, finalStates, forward, unembeddingName } from './model.js';
import type { ModelWeights } from './parameters.js';
import type { HiddenStates, SequenceBatch } from './policy.js';

/** See `Policy.hidden`. */
export function hiddenStates(model: ModelWeights, batch: SequenceBatch, from: number): HiddenStates {
  const { sequences, tokens } = batch;
  const { precision, shape } = model;
  const name = unembeddingName(shape);
  const { finalSoftCap } = shape;
  return {
    states: tf.tidy(() => finalStates(model, forward(model, tokens, batchContext(model, batch)), { sequences, from })),
    unembedding: model.weights[name] as tf.Tensor2D,
    trainsUnembedding: model.trained.has(name),
    precision,
    ...(finalSoftCap !== null && { softCap: finalSoftCap }),
  };
}
