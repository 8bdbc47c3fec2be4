// Text and token ids. Everything that is computed with travels as ids; text is encoded once, when it comes in, and decoded to
// be read, never to be encoded again.

/** A vocabulary, and the way from text to its ids and back. */
export interface Tokenizer {
  /** One more than the largest id that stands for something. A model may have logits for more: those are never sampled. */
  readonly vocabularySize: number;
  /** Ids that end a completion; there may be several. */
  readonly endTokens: readonly number[];
  /** The id that fills rows up; null where the vocabulary has none. It is masked wherever it stands. */
  readonly paddingToken: number | null;
  /** Ids of tokens that stand for no text, by their names: `<|im_end|>`. */
  readonly specialTokens: ReadonlyMap<string, number>;

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
