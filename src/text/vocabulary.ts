// Characters and token ids.

import { checkNumber, describe, isTypedArray, rangeError, typeError } from '../base/check.js';

/** Converts text to token ids and back. `characterVocabulary` creates one from characters; you can also supply your own. */
export interface Vocabulary {
  /** Identifies the vocabulary in a run folder. */
  readonly id: string;
  /** Number of token ids, the end token included. */
  readonly size: number;
  /** The token that ends a completion. */
  readonly end: number;
  /** Token ids of a text, without an end token. RangeError for a text outside the vocabulary. */
  encode(text: string): Int32Array;
  /** The text of token ids up to the first end token. */
  decode(tokens: Int32Array): string;
}

const idPrefix = 'characters ';

/** The characters of a vocabulary, from its id; undefined if it was not created from characters. */
export function charactersOf(id: string): string | undefined {
  return id.startsWith(idPrefix) ? id.slice(idPrefix.length) : undefined;
}

/**
 * A vocabulary of characters, for example '0123456789+=': token 0 ends a completion, ids from 1 on are the characters.
 * RangeError for a repeated character.
 */
export function characterVocabulary(characters: string): Vocabulary {
  const symbols = [...characters];
  const ids = new Map(symbols.map((symbol, i) => [symbol, i + 1]));
  if (ids.size !== symbols.length) throw rangeError('characters', 'distinct characters', JSON.stringify(characters));
  return {
    id: idPrefix + characters,
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

/** A vocabulary, created from characters if a string is given. TypeError or RangeError that names the field. */
export function checkVocabulary(field: string, value: unknown): Vocabulary {
  if (typeof value === 'string') return characterVocabulary(value);
  const v = value as Partial<Vocabulary> | null;
  const fits =
    typeof v === 'object' &&
    v !== null &&
    typeof v.id === 'string' &&
    typeof v.encode === 'function' &&
    typeof v.decode === 'function';
  if (!fits) throw typeError(field, 'a string of characters, or a vocabulary with id, size, end, encode and decode', v);
  checkNumber(`${field}.size`, v.size, { min: 1, integer: true });
  checkNumber(`${field}.end`, v.end, { min: 0, max: (v.size as number) - 1, integer: true });
  // Tested once before anything depends on it; later results are checked where they are used.
  decodeTokens(v as Vocabulary, Int32Array.of(v.end as number), field);
  return v as Vocabulary;
}

/** Encodes a text with a vocabulary. TypeError or RangeError if the result is not an Int32Array of its token ids. */
export function encodeText(vocabulary: Vocabulary, text: string, field = 'policy.vocabulary'): Int32Array {
  const ids: unknown = vocabulary.encode(text);
  const call = `${field}.encode(${describe(text)})`;
  if (!isTypedArray(ids, 'Int32Array')) throw typeError(call, 'an Int32Array', ids);
  const outside = (ids as Int32Array).find((id) => id < 0 || id >= vocabulary.size);
  if (outside !== undefined) throw rangeError(call, `token ids from 0 to ${vocabulary.size - 1}`, String(outside));
  return ids as Int32Array;
}

/** Decodes token ids with a vocabulary. TypeError if the result is not a string. */
export function decodeTokens(vocabulary: Vocabulary, tokens: Int32Array, field = 'policy.vocabulary'): string {
  const text: unknown = vocabulary.decode(tokens);
  if (typeof text === 'string') return text;
  throw typeError(`${field}.decode of the tokens ${tokens.subarray(0, 8).join(', ')}`, 'a string', text);
}
