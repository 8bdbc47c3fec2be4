// The tokenizer of a model folder that has none: ids stay ids, and stand for no text.

import { rangeError } from '../base/check.js';
import type { Tokenizer } from './tokenizer.js';

/** `folder` is what errors say has no tokenizer.json; `vocabularySize` is the number of the model's ids. */
export function idTokenizer(folder: string, vocabularySize: number, endTokens: readonly number[]): Tokenizer {
  return {
    vocabularySize,
    endTokens: [...new Set(endTokens)].sort((a, b) => a - b),
    paddingToken: null,
    specialTokens: new Map(),
    encode: async () => {
      throw rangeError(folder, 'a folder with tokenizer.json, to read text', 'none');
    },
    decode: () => '',
    stream: () => ({ push: () => '', end: () => '' }),
  };
}
