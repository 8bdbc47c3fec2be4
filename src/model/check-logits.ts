// Checks the logits that policies return: a user's own model may return anything.

import * as tf from '@tensorflow/tfjs-core';
import { rangeError, typeError } from '../base/check.js';

/** Returns float32 logits [rows, vocabulary] unchanged. TypeError or RangeError for anything else. */
export function checkLogits(value: unknown, rows: number, vocabulary: number): tf.Tensor2D {
  if (!(value instanceof tf.Tensor)) throw typeError('policy', 'logits in a tensor', value);
  if (value.isDisposed) throw rangeError('policy', 'a live tensor of logits', 'one that was disposed');
  const { shape, dtype } = value;
  if (shape.length !== 2 || shape[0] !== rows || shape[1] !== vocabulary) {
    const came = `[${shape.join(', ')}]`;
    throw rangeError('policy', `logits of shape [${rows}, ${vocabulary}] (rows, vocabulary)`, came);
  }
  if (dtype !== 'float32') throw rangeError('policy', 'float32 logits', `dtype ${dtype}`);
  return value as tf.Tensor2D;
}
