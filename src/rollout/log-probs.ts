// Log-probs of tokens, computed by the code of the loss: from the same logits, sampler and loss get the same bits.

import type { DeviceChoice } from '../devices/devices.js';
import { logitsLoss } from '../loss/losses.js';
import { presets } from '../loss/presets.js';

/** Log-probs of one token for each row of logits [rows, V], under softmax(logits / temperature). */
export function logProbsOf(
  logits: Float32Array,
  tokens: Int32Array,
  temperature: number,
  device: DeviceChoice,
): Float32Array {
  const rows = tokens.length;
  const shape = { sequences: rows, length: 1, vocab: logits.length / rows };
  const input = { shape, logits, tokens, temperature, advantages: new Float32Array(rows) };
  return logitsLoss(input, presets.reinforce, { gradient: false, device }).logProbs;
}
