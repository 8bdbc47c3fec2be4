// What policies give back for logits, checked: a model of the user's own may give anything.

import * as tf from '@tensorflow/tfjs-core';
import { rangeError, typeError } from '../base/check.js';

/** Logits float32 [rows, vocabulary], as they came. TypeError or RangeError for anything else. */
export function checkLogits(value: unknown, rows: number, vocabulary: number): tf.Tensor2D {
  if (!(value instanceof tf.Tensor)) throw typeError('policy', 'logits as a tensor', value);
  if (value.isDisposed) throw rangeError('policy', 'logits in use', 'a tensor that was disposed of');
  const { shape, dtype } = value;
  if (shape.length !== 2 || shape[0] !== rows || shape[1] !== vocabulary) {
    const came = `[${shape.join(', ')}]`;
    throw rangeError('policy', `logits of shape [${rows}, ${vocabulary}] (rows, vocabulary)`, came);
  }
  if (dtype !== 'float32') throw rangeError('policy', 'float32 logits', `dtype ${dtype}`);
  return value as tf.Tensor2D;
}
