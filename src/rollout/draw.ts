// A step of the sampler: a token for each row of logits, its log-prob, and what a cut left of the row. Our own backend has a kernel
// for it; elsewhere the same is composed of the choice of a token and the arithmetic of the loss.

import type * as tf from '@tensorflow/tfjs-core';
import { sampleRows } from '../backend/sampling.js';
import type { DeviceChoice } from '../devices/devices.js';
import { checkTemperature } from '../loss/request.js';
import { maskedScore } from '../model/attention.js';
import { blockSize, chooseFromCut, chooseTokens } from './choose.js';
import { type Cut, isCut } from './engine.js';
import { keepOnly } from './kept-tokens.js';
import { logProbsOf } from './log-probs.js';

export interface Drawing {
  /** 0: the most likely token, whatever the cut is. */
  temperature: number;
  cut: Cut;
  /** Ids from here on are not drawn. */
  allowed: number;
  /** Whether a row's token is wanted. */
  wanted: (row: number) => boolean;
  /** A number in [0, 1) for a row that is wanted. Not called for the most likely tokens. */
  uniform: (row: number) => number;
  /** Where log-probs are computed. */
  device: DeviceChoice;
}

export interface Drawn {
  /** Of rows that are wanted; −1 where a logit of the row is not finite (−Infinity is a probability of 0). */
  tokens: Int32Array;
  /** At the temperature (1 if that is 0), over all logits or over what the cut left. */
  logProbs: Float32Array;
  /** Where there is a cut: the ids that it left of each row that is wanted, ascending. */
  kept?: Int32Array[];
}

/** Draws a token for each row of logits [rows, V] from softmax(logits / temperature), cut to its most likely tokens. */
export function drawTokens(logits: tf.Tensor2D, drawing: Drawing): Drawn {
  const { device, temperature, cut, allowed, wanted, uniform } = drawing;
  const onProcessor = device === 'auto' || device === 'cpu';
  if (!onProcessor) return composedDraw(logits, drawing);
  const [rows, vocabulary] = logits.shape;
  const isWanted = Uint8Array.from({ length: rows }, (_, row) => Number(wanted(row)));
  const drawn = sampleRows(logits, {
    temperature: checkTemperature(temperature || 1),
    allowed,
    block: blockSize(vocabulary),
    wanted: isWanted,
    uniforms: temperature === 0 ? null : Float64Array.from(isWanted, (own, row) => (own ? uniform(row) : 0)),
    ...(temperature !== 0 && isCut(cut) && { cut }),
    masked: maskedScore,
  });
  return drawn ?? composedDraw(logits, drawing);
}

/** The same of operations that every backend has. */
export function composedDraw(logits: tf.Tensor2D, drawing: Drawing): Drawn {
  const { device, temperature, cut, allowed, wanted, uniform } = drawing;
  const [rows, vocabulary] = logits.shape;
  const choose = (): ReturnType<typeof chooseTokens> & { kept?: Int32Array[] } => {
    if (temperature === 0) return chooseTokens(logits, 1, { allowed });
    const uniforms = Float64Array.from({ length: rows }, (_, row) => (wanted(row) ? uniform(row) : 0));
    if (!isCut(cut)) return chooseTokens(logits, temperature, { uniforms, allowed });
    return chooseFromCut(logits, temperature, cut, { uniforms, allowed, wanted });
  };
  const { tokens, probabilities, kept } = choose();
  const values = logits.dataSync<'float32'>();
  const input = kept ? keepOnly(values, vocabulary, kept) : values;
  const logProbs = logProbsOf(input, tokens, temperature || 1, device);
  return {
    tokens: tokens.map((token, row) => (Number.isNaN(probabilities[row]) ? -1 : token)),
    logProbs,
    ...(kept && { kept }),
  };
}
