// The tokenizer of a character vocabulary, or of another vocabulary that encodes synchronously.

import type { TextStream, Tokenizer } from './tokenizer.js';
import { decodeTokens, encodeText, type Vocabulary } from './vocabulary.js';

/** A vocabulary's ids as a `Tokenizer`: no special tokens are added, and text ends at the first end token. */
export function vocabularyTokenizer(vocabulary: Vocabulary): Tokenizer {
  const decode = (ids: ArrayLike<number>) => decodeTokens(vocabulary, Int32Array.from(ids));
  return {
    vocabularySize: vocabulary.size,
    endTokens: [vocabulary.end],
    paddingToken: null,
    specialTokens: new Map(),
    encode: async (texts) => texts.map((text) => encodeText(vocabulary, text)),
    decode,
    stream: () => new PrefixStream(decode),
  };
}

/** A stream from a function that decodes all ids at once. Text that later ids could still change is held back. */
class PrefixStream implements TextStream {
  private readonly ids: number[] = [];
  private given = '';

  constructor(private readonly decode: (ids: readonly number[]) => string) {}

  push(id: number): string {
    this.ids.push(id);
    return this.more();
  }

  end(): string {
    return this.more();
  }

  private more(): string {
    const text = this.decode(this.ids);
    if (!text.startsWith(this.given)) return '';
    const more = text.slice(this.given.length);
    this.given = text;
    return more;
  }
}
