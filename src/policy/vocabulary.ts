// Characters and token ids.

import { rangeError } from '../loss/check.js';

/** Token id 0 ends a completion; ids from 1 on are the characters. */
export interface Vocabulary {
  /** Number of token ids: the characters and the end token. */
  readonly size: number;
  /** The token that ends a completion, 0. */
  readonly end: number;
  /** Token ids of a text, without an end token. RangeError for a character outside the vocabulary. */
  encode(text: string): Int32Array;
  /** The text of token ids up to the first end token. */
  decode(tokens: Int32Array): string;
}

/** The vocabulary of some characters, for example '0123456789+='. RangeError for a repeated character. */
export function characterVocabulary(characters: string): Vocabulary {
  const symbols = [...characters];
  const ids = new Map(symbols.map((symbol, i) => [symbol, i + 1]));
  if (ids.size !== symbols.length) throw rangeError('characters', 'no character twice', JSON.stringify(characters));
  return {
    size: symbols.length + 1,
    end: 0,
    encode: (text) =>
      Int32Array.from([...text], (symbol) => {
        const id = ids.get(symbol);
        if (id === undefined) throw rangeError('text', `characters of "${characters}"`, JSON.stringify(text));
        return id;
      }),
    decode: (tokens) => {
      const end = tokens.indexOf(0);
      return Array.from(end < 0 ? tokens : tokens.subarray(0, end), (id) => symbols[id - 1]).join('');
    },
  };
}
