// Text and token ids. Everything that is computed with travels as ids; text is encoded once, when it comes in, and decoded to
// be read, never to be encoded again.

import { checkNumber, checkObject, describe, isTypedArray, rangeError, typeError } from '../base/check.js';
import type { ChatTemplate } from './chat-template.js';

/** A vocabulary, and the way from text to its ids and back. */
export interface Tokenizer {
  /** One more than the largest id that stands for something. A model may have logits for more: those are never sampled. */
  readonly vocabularySize: number;
  /** Ids that end a completion; there may be several. */
  readonly endTokens: readonly number[];
  /** Of `endTokens` the one that texts which are learnt from end with. Left out: the first. */
  readonly endToken?: number;
  /** The id that fills rows up; null where the vocabulary has none. It is masked wherever it stands. */
  readonly paddingToken: number | null;
  /** Ids of tokens that stand for no text, by their names: `<|im_end|>`. */
  readonly specialTokens: ReadonlyMap<string, number>;
  /** How chat messages become text; null or left out where the model has no chat template. */
  readonly chat?: Pick<ChatTemplate, 'render'> | null;

  /** Ids of texts. Lone surrogates count as U+FFFD. */
  encode(texts: readonly string[], options?: EncodeOptions): Promise<Int32Array[]>;

  /** The text of ids. Bytes that are not UTF-8 become U+FFFD. Ids outside the vocabulary stand for nothing. */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string;

  /** Decodes ids as they come. */
  stream(options?: DecodeOptions): TextStream;
}

export interface EncodeOptions {
  /** Add the tokens that the tokenizer puts around a text, such as that of its beginning; true when left out. */
  addSpecialTokens?: boolean;
}

export interface DecodeOptions {
  /** Leave special tokens out of the text; false when left out. */
  skipSpecialTokens?: boolean;
}

/**
 * Text from ids that come one at a time. The parts add up to what `decode` gives for all ids; a character whose bytes are
 * split over tokens comes with its last byte.
 *
 * @example
 * const stream = tokenizer.stream();
 * for (const id of completion) process.stdout.write(stream.push(id));
 * process.stdout.write(stream.end());
 */
export interface TextStream {
  /** The text that an id completes: often all of its own, at times none. */
  push(id: number): string;
  /** What is left, with U+FFFD for a character that was not completed. */
  end(): string;
}

/** Checks what is given for a tokenizer. TypeError or RangeError that names the field. */
export function checkTokenizer(field: string, value: unknown): Tokenizer {
  const tokenizer = checkObject(field, value) as unknown as Partial<Tokenizer>;
  const { vocabularySize, endTokens, paddingToken } = tokenizer;
  checkNumber(`${field}.vocabularySize`, vocabularySize, { min: 1, integer: true });
  const id = { min: 0, below: vocabularySize, integer: true };
  if (!Array.isArray(endTokens)) throw typeError(`${field}.endTokens`, 'a list of token ids', endTokens);
  for (const [i, token] of endTokens.entries()) checkNumber(`${field}.endTokens[${i}]`, token, id);
  if (tokenizer.endToken !== undefined) checkNumber(`${field}.endToken`, tokenizer.endToken, id);
  if (paddingToken !== null) checkNumber(`${field}.paddingToken`, paddingToken, id);
  for (const method of ['encode', 'decode', 'stream'] as const) {
    if (typeof tokenizer[method] !== 'function') throw typeError(`${field}.${method}`, 'a function', tokenizer[method]);
  }
  return tokenizer as Tokenizer;
}

/** An id that may stand where nothing is read: the padding token where there is one, else one that ends a completion. */
export function paddingOf({ paddingToken, endTokens }: Tokenizer): number {
  return paddingToken ?? endTokens[0] ?? 0;
}

/** The ids of one text. TypeError or RangeError where a tokenizer gives anything but an Int32Array of its ids. */
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

/**
 * What a completion says: the text of its ids without special tokens and without the one that ends it, an end token of the
 * tokenizer or one of `stopTokens`.
 */
export function completionText(tokenizer: Tokenizer, ids: Int32Array, stopTokens: readonly number[] = []): string {
  const last = ids[ids.length - 1];
  const isEnded = tokenizer.endTokens.includes(last) || stopTokens.includes(last);
  const own = isEnded ? ids.subarray(0, ids.length - 1) : ids;
  const text: unknown = tokenizer.decode(own, { skipSpecialTokens: true });
  if (typeof text === 'string') return text;
  throw typeError(`policy.tokenizer.decode of the tokens ${own.subarray(0, 8).join(', ')}`, 'a text', text);
}
