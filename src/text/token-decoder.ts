// Converts tokens to text one by one, as specified by the `decoder` of a tokenizer.json. Supports the kinds that language models
// use: bytes written as letters (ByteLevel: GPT-2, Llama 3, Qwen, SmolLM), and words with a mark for the preceding space and
// single bytes as `<0xE4>` (Llama 2, Mistral, Gemma, Phi-3). Gives the same text as Rust's `tokenizers`, which transformers uses.

import { checkObject, describe, rangeError, typeError } from '../base/check.js';

/** Turns tokens into text. The concatenated parts are the text of all tokens. */
export interface TokenDecoder {
  push(token: string): string;
  end(): string;
}

/** Creates a decoder for each text. */
export type TokenDecoderFactory = () => TokenDecoder;

type Settings = Record<string, unknown>;

/**
 * The decoder that a tokenizer.json describes.
 *
 * @param settings its `decoder`
 * @param field its name in errors
 * @throws RangeError, naming the type, for a kind that no language model here uses
 */
export function readTokenDecoder(settings: unknown, field: string): TokenDecoderFactory {
  const { type, ...own } = checkObject(field, settings);
  switch (type) {
    case 'ByteLevel':
      return () => new ByteLevelDecoder();
    case 'Metaspace':
      return metaspace(own);
    case 'Sequence':
      return sequence(own, field);
    default:
      throw rangeError(`${field}, type`, "'ByteLevel', 'Metaspace' or 'Sequence'", describe(type));
  }
}

/** GPT-2's letters for bytes: printable bytes represent themselves, the others start at U+0100. */
function byteLetters(): Map<string, number> {
  const isPrintable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let next = 0x100;
  return new Map(
    Array.from({ length: 256 }, (_, byte) => [String.fromCharCode(isPrintable(byte) ? byte : next++), byte] as const),
  );
}

const letters = byteLetters();

/** The bytes of all tokens form one UTF-8 text. */
class ByteLevelDecoder implements TokenDecoder {
  private readonly decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  push(token: string): string {
    return this.decoder.decode(bytesOf(token), { stream: true });
  }

  end(): string {
    return this.decoder.decode();
  }
}

/** A token with a letter that represents no byte, such as an added token, is its own text. */
function bytesOf(token: string): Uint8Array {
  const bytes: number[] = [];
  for (const letter of token) {
    const byte = letters.get(letter);
    if (byte === undefined) return new TextEncoder().encode(token);
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

/** A mark represents the space before a word; marks of the first token are dropped. */
function metaspace({ replacement, prepend_scheme: scheme }: Settings): TokenDecoderFactory {
  const mark = typeof replacement === 'string' ? replacement : '▁';
  return () => {
    let isFirst = scheme !== 'never';
    return {
      push(token) {
        const text = token.replaceAll(mark, isFirst ? '' : ' ');
        isFirst = false;
        return text;
      },
      end: () => '',
    };
  };
}

/** Applies replacements in each token, then byte fallback, then strips the first characters of the text. */
function sequence({ decoders }: Settings, field: string): TokenDecoderFactory {
  if (!Array.isArray(decoders)) throw typeError(`${field}, decoders`, 'a list', decoders);
  const replacements: ((token: string) => string)[] = [];
  let hasBytes = false;
  let isFused = false;
  let strip: { content: string; start: number } | undefined;
  for (const [i, one] of decoders.entries()) {
    const own = `${field}, decoder ${i}`;
    const settings = checkObject(own, one);
    const { type } = settings;
    if (type === 'ByteLevel' && decoders.length === 1) return () => new ByteLevelDecoder();
    if (type === 'Metaspace' && decoders.length === 1) return metaspace(settings);
    if (type === 'Replace' && !hasBytes && !isFused) replacements.push(replacement(settings, own));
    else if (type === 'ByteFallback' && !isFused) hasBytes = true;
    else if (type === 'Fuse' && !strip) isFused = true;
    else if (type === 'Strip' && isFused && !strip) strip = leading(settings, own);
    else throw rangeError(`${own}, type`, 'Replace, ByteFallback, Fuse, Strip in this order', describe(type));
  }
  return () => new WordDecoder(replacements, hasBytes, strip);
}

function replacement({ pattern, content }: Settings, field: string): (token: string) => string {
  const text = checkObject(`${field}, pattern`, pattern).String;
  if (typeof text !== 'string' || text === '') throw rangeError(`${field}, pattern`, 'a String', describe(text));
  if (typeof content !== 'string') throw typeError(`${field}, content`, 'a string', content);
  return (token) => token.replaceAll(text, () => content);
}

function leading({ content, start, stop }: Settings, field: string): { content: string; start: number } {
  if (typeof content !== 'string' || typeof start !== 'number') throw typeError(field, 'content and start', content);
  if (stop !== 0) throw rangeError(`${field}, stop`, '0', describe(stop));
  return { content, start };
}

class WordDecoder implements TokenDecoder {
  /** Bytes of a run of byte tokens. */
  private readonly run: number[] = [];
  private toStrip: number;

  constructor(
    private readonly replacements: readonly ((token: string) => string)[],
    private readonly hasBytes: boolean,
    private readonly strip: { content: string; start: number } | undefined,
  ) {
    this.toStrip = strip?.start ?? 0;
  }

  push(token: string): string {
    const text = this.replacements.reduce((own, replace) => replace(own), token);
    const byte = this.hasBytes ? /^<0x([0-9A-Fa-f]{2})>$/.exec(text) : null;
    if (byte) {
      this.run.push(Number.parseInt(byte[1], 16));
      return '';
    }
    return this.stripped(this.endRun() + text);
  }

  end(): string {
    return this.stripped(this.endRun());
  }

  /**
   * A run of bytes is decoded as a whole, so it must be complete first: one invalid byte turns every byte of the run into
   * U+FFFD.
   */
  private endRun(): string {
    const bytes = Uint8Array.from(this.run.splice(0));
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      return '\ufffd'.repeat(bytes.length);
    }
  }

  private stripped(text: string): string {
    let own = text;
    while (this.toStrip > 0 && own !== '') {
      if (!own.startsWith(this.strip!.content)) this.toStrip = 0;
      else {
        own = own.slice(this.strip!.content.length);
        this.toStrip--;
      }
    }
    return own;
  }
}
