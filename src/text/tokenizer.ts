// Text and token ids. All computation is on ids: text is encoded once, on input, and decoded only to be read, never re-encoded.

import { checkNumber, checkObject, describe, isTypedArray, rangeError, typeError } from '../base/check.js';
import type { ChatTemplate } from './chat-template.js';

/** A vocabulary, and the conversion from text to its ids and back. */
export interface Tokenizer {
  /** One more than the largest valid id. A model may have more logits than that; the extra ones are never sampled. */
  readonly vocabularySize: number;
  /** Ids that end a completion; there may be several. */
  readonly endTokens: readonly number[];
  /** The end token appended to training texts, one of `endTokens`. Default: the first. */
  readonly endToken?: number;
  /** The padding id; null if the vocabulary has none. Padding is always masked. */
  readonly paddingToken: number | null;
  /** Ids of special tokens, which do not represent text, by name: `<|im_end|>`. */
  readonly specialTokens: ReadonlyMap<string, number>;
  /** How chat messages become text; null or undefined if the model has no chat template. */
  readonly chat?: Pick<ChatTemplate, 'render'> | null;

  /** Ids of texts. Lone surrogates are treated as U+FFFD. */
  encode(texts: readonly string[], options?: EncodeOptions): Promise<Int32Array[]>;

  /** The text of ids. Bytes that are not UTF-8 become U+FFFD. Ids outside the vocabulary are ignored. */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string;

  /** Decodes ids one at a time. */
  stream(options?: DecodeOptions): TextStream;
}

export interface EncodeOptions {
  /** Add the special tokens that the tokenizer puts around a text, such as a beginning-of-text token. Default true. */
  addSpecialTokens?: boolean;
}

export interface DecodeOptions {
  /** Omit special tokens from the text. Default false. */
  skipSpecialTokens?: boolean;
}

/**
 * Text from ids that arrive one at a time. The concatenated parts equal `decode` of all ids; a character whose bytes are split
 * over tokens is emitted with its last byte.
 *
 * @example
 * const stream = tokenizer.stream();
 * for (const id of completion) process.stdout.write(stream.push(id));
 * process.stdout.write(stream.end());
 */
export interface TextStream {
  /** The text that an id completes: usually its own, sometimes none. */
  push(id: number): string;
  /** The rest, with U+FFFD for an incomplete character. */
  end(): string;
}

/** Checks a tokenizer. TypeError or RangeError that names the field. */
export function checkTokenizer(field: string, value: unknown): Tokenizer {
  const tokenizer = checkObject(field, value) as unknown as Partial<Tokenizer>;
  const { vocabularySize, endTokens, paddingToken } = tokenizer;
  checkNumber(`${field}.vocabularySize`, vocabularySize, { min: 1, integer: true });
  const id = { min: 0, below: vocabularySize, integer: true };
  if (!Array.isArray(endTokens)) throw typeError(`${field}.endTokens`, 'an array of token ids', endTokens);
  for (const [i, token] of endTokens.entries()) checkNumber(`${field}.endTokens[${i}]`, token, id);
  if (tokenizer.endToken !== undefined) checkNumber(`${field}.endToken`, tokenizer.endToken, id);
  if (paddingToken !== null) checkNumber(`${field}.paddingToken`, paddingToken, id);
  for (const method of ['encode', 'decode', 'stream'] as const) {
    if (typeof tokenizer[method] !== 'function') throw typeError(`${field}.${method}`, 'a function', tokenizer[method]);
  }
  return tokenizer as Tokenizer;
}

/** An id for positions that are not read: the padding token if there is one, else an end token. */
export function paddingOf({ paddingToken, endTokens }: Tokenizer): number {
  return paddingToken ?? endTokens[0] ?? 0;
}

/** The ids of one text. TypeError or RangeError if a tokenizer returns anything but an Int32Array of its ids. */
export async function encodeOne(tokenizer: Tokenizer, text: string, options?: EncodeOptions): Promise<Int32Array> {
  const call = `policy.tokenizer.encode([${describe(text)}])`;
  const all: unknown = await tokenizer.encode([text], options);
  const ids: unknown = Array.isArray(all) && all.length === 1 ? all[0] : undefined;
  if (!isTypedArray(ids, 'Int32Array')) throw typeError(call, 'one Int32Array', all);
  const { vocabularySize } = tokenizer;
  const outside = (ids as Int32Array).find((id) => id < 0 || id >= vocabularySize);
  if (outside !== undefined) throw rangeError(call, `token ids from 0 to ${vocabularySize - 1}`, String(outside));
  return ids as Int32Array;
}

/** The text of a completion, without special tokens and without its final end token or stop token (one of `stopTokens`).
 */
export function completionText(tokenizer: Tokenizer, ids: Int32Array, stopTokens: readonly number[] = []): string {
  const last = ids[ids.length - 1];
  const isEnded = tokenizer.endTokens.includes(last) || stopTokens.includes(last);
  const own = isEnded ? ids.subarray(0, ids.length - 1) : ids;
  const text: unknown = tokenizer.decode(own, { skipSpecialTokens: true });
  if (typeof text === 'string') return text;
  throw typeError(`policy.tokenizer.decode of the tokens ${own.subarray(0, 8).join(', ')}`, 'a string', text);
}
