// Creates a transformer policy by name: its sizes, its vocabulary, the backend that holds its weights.

import { ensureBackend } from '../backend/backend.js';
import { precisions } from '../backend/precision.js';
import { checkChoice, checkKeys, checkNumber, checkObject } from '../base/check.js';
import { checkVocabulary } from '../text/vocabulary.js';
import type { VocabularyPolicy } from './policy.js';
import { createTransformer, type TransformerSize } from './transformer.js';
import type { TransformerPolicyOptions, TransformerPreset } from './transformer-options.js';

/** Sizes by name. Parameters without the embedding: nano 0.1 million, micro 0.8, mini 4.8. */
export const transformerPresets: Readonly<Record<TransformerPreset, Omit<TransformerSize, 'keyValueHeads'>>> = {
  nano: { layers: 2, width: 64, heads: 4, hidden: 176 },
  micro: { layers: 4, width: 128, heads: 4, hidden: 352 },
  mini: { layers: 6, width: 256, heads: 8, hidden: 704 },
};

const sizeFields = ['layers', 'width', 'heads', 'keyValueHeads', 'hidden'] as const;

/** A transformer with random weights. TypeError or RangeError that names the option. */
export async function createTransformerPolicy(options: TransformerPolicyOptions): Promise<VocabularyPolicy> {
  const o = { ...checkObject('policy', options) };
  checkKeys('policy', o, ['preset', 'vocabulary', 'seed', 'backend', 'precision', ...sizeFields]);
  const { preset = 'micro', vocabulary, seed = 0, backend, precision } = options;
  checkChoice('policy.preset', preset, Object.keys(transformerPresets) as TransformerPreset[]);
  checkNumber('policy.seed', seed, { min: 0, integer: true });
  if (precision !== undefined) checkChoice('policy.precision', precision, precisions);
  const given = Object.fromEntries(sizeFields.filter((field) => o[field] !== undefined).map((f) => [f, o[f]]));
  const words = checkVocabulary('policy.vocabulary', vocabulary);
  await ensureBackend(backend);
  const size = { ...transformerPresets[preset], ...given };
  try {
    return createTransformer({ keyValueHeads: size.heads, ...size, precision }, words, seed);
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError) error.message = `policy.${error.message}`;
    throw error;
  }
}
