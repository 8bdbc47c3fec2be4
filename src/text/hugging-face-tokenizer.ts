// The tokenizer of a Hugging Face folder.

import { join } from 'node:path';
import { checkChoice, describe, rangeError } from '../base/check.js';
import { ChatTemplate } from './chat-template.js';
import { createEncoder, type Encoder, type EncoderName, encoderNames } from './encoders.js';
import { readTokenDecoder, type TokenDecoderFactory } from './token-decoder.js';
import type { DecodeOptions, EncodeOptions, TextStream, Tokenizer } from './tokenizer.js';
import { readTokenizerFiles, type TokenizerFiles } from './tokenizer-files.js';

export interface TokenizerOptions {
  /** Additional ids that end a completion: those of the model's configuration. */
  endTokens?: readonly number[];
  /** Rows of the model's embedding: a token beyond them is an error, except those of images and sounds. Default: no limit. */
  modelSize?: number;
  /** The package that encodes. Default: `tokenizers` if it is installed, else @huggingface/tokenizers. */
  encoder?: EncoderName;
}

/** Gives the same ids as transformers with the same files. */
export class HuggingFaceTokenizer implements Tokenizer {
  readonly vocabularySize: number;
  readonly endTokens: readonly number[];
  readonly endToken: number | undefined;
  readonly paddingToken: number | null;
  readonly specialTokens: ReadonlyMap<string, number>;
  /** How chat messages become text; null if the folder has no chat template. */
  readonly chat: ChatTemplate | null;
  private readonly specialIds: ReadonlySet<number>;

  private constructor(
    private readonly files: TokenizerFiles,
    private readonly encoder: Encoder,
    private readonly decoder: TokenDecoderFactory,
    chat: ChatTemplate | null,
    endTokens: readonly number[],
    modelSize: number,
  ) {
    const idOf = (token: string | undefined) => (token === undefined ? -1 : files.tokens.indexOf(token));
    const end = idOf(files.roles.get('eos_token'));
    const padding = idOf(files.roles.get('pad_token'));
    const all = new Set([...endTokens, ...files.endTokens, ...(end === -1 ? [] : [end])]);
    this.chat = chat;
    this.vocabularySize = Math.min(files.tokens.length, modelSize);
    // A configuration may name ids that this tokenizer does not have; they never occur.
    this.endTokens = [...all].filter((id) => id < this.vocabularySize).sort((a, b) => a - b);
    this.endToken = end === -1 ? undefined : end;
    this.paddingToken = padding === -1 ? null : padding;
    const named = [...files.roles.values()].map((token) => [token, idOf(token)] as const).filter(([, id]) => id !== -1);
    const special = files.added.filter((token) => token.special).map(({ content, id }) => [content, id] as const);
    this.specialTokens = new Map([...special, ...named]);
    this.specialIds = new Set(this.specialTokens.values());
  }

  /**
   * Reads tokenizer.json, tokenizer_config.json, special_tokens_map.json, generation_config.json and the chat template.
   * `endTokens` is the union of all that these files and the options name.
   *
   * @throws TypeError or RangeError, naming the file, if one is missing or unusable
   *
   * @example
   * const tokenizer = await HuggingFaceTokenizer.load('models/Qwen2.5-0.5B-Instruct');
   * const [ids] = await tokenizer.encode(['Once upon a time']);
   */
  static async load(
    folder: string,
    { endTokens = [], modelSize = Infinity, encoder }: TokenizerOptions = {},
  ): Promise<HuggingFaceTokenizer> {
    if (encoder !== undefined) checkChoice('encoder', encoder, encoderNames);
    const files = readTokenizerFiles(folder);
    checkSize(folder, files, modelSize);
    const decoder = readTokenDecoder(files.tokenizer.decoder, 'tokenizer.json, decoder');
    let encode: Encoder;
    try {
      encode = await createEncoder(files.tokenizer, files.config, encoder);
    } catch (error) {
      throw rangeError(join(folder, 'tokenizer.json'), 'a tokenizer that can be used', (error as Error).message);
    }
    const chat = ChatTemplate.read(folder, files.config, files.roles);
    return new HuggingFaceTokenizer(files, encode, decoder, chat, endTokens, modelSize);
  }

  async encode(texts: readonly string[], { addSpecialTokens = true }: EncodeOptions = {}): Promise<Int32Array[]> {
    const given = texts.map((text) => text.replace(/\p{Surrogate}/gu, '\ufffd'));
    const all = await this.encoder(given, addSpecialTokens);
    return all.map((ids, i) => {
      const lacking = ids.findIndex((id) => !Number.isInteger(id));
      if (lacking !== -1) {
        throw rangeError(
          `text ${i}, token ${lacking}`,
          'text that the vocabulary can encode',
          'text that it cannot encode',
        );
      }
      return Int32Array.from(ids);
    });
  }

  decode(ids: ArrayLike<number>, options: DecodeOptions = {}): string {
    const stream = this.stream(options);
    const parts = Array.from(ids, (id) => stream.push(id));
    return parts.join('') + stream.end();
  }

  stream({ skipSpecialTokens = false }: DecodeOptions = {}): TextStream {
    const decoder = this.decoder();
    return {
      push: (id) => {
        const token = this.files.tokens[id];
        if (token === undefined || (skipSpecialTokens && this.specialIds.has(id))) return '';
        return decoder.push(token);
      },
      end: () => decoder.end(),
    };
  }
}

/**
 * Tokens that stand for images and sounds, in tokenizers that text models share with others (Gemma 3); no text encodes to
 * them.
 */
const softToken = /^<\w+_soft_token>$/;

/** RangeError for a token that the model has no row for. */
function checkSize(folder: string, { tokens, added }: TokenizerFiles, modelSize: number): void {
  const isSoft = (id: number) =>
    added.some((token) => token.id === id && token.special && softToken.test(token.content));
  for (let id = modelSize; id < tokens.length; id++) {
    if (tokens[id] === undefined || isSoft(id)) continue;
    const expected = `ids below the ${modelSize} rows of the model (vocab_size)`;
    throw rangeError(join(folder, 'tokenizer.json'), expected, `${id}, that of ${describe(tokens[id])}`);
  }
}
