// What users of `generate` and `tokenLogProbs` write and get, in types that stand without tfjs.

import type { ChatMessage } from '../text/chat-template.js';

/** A text, a chat, or token ids, which are read as they are. */
export type Prompt = string | readonly ChatMessage[] | Int32Array;

export interface GenerateOptions {
  /** Tokens of a completion at most, the end token included. Default 256. */
  maxTokens?: number;
  /** Divides the logits; 0 takes the most likely token, the lowest id of equals. Default 1. */
  temperature?: number;
  /**
   * Cut the distribution: to the `topK` most likely tokens, of those to the fewest whose share reaches `topP`, of those to the
   * ones at least `minP` times as likely as the most likely. Default: no cut.
   */
  topP?: number;
  topK?: number;
  minP?: number;
  /** Ids that end a completion like the end tokens of the policy. Default: none. */
  stopTokens?: readonly number[];
  /** A completion ends with the token that completes one of these texts, which stays part of it. Default: none. */
  stopTexts?: readonly string[];
  /** Of the random numbers: each is addressed by seed, prompt, sample and position. Default 0. */
  seed?: number;
  /** Completions a prompt. Default 1. */
  samples?: number;
  /** Interrupts the sampling: its reason is thrown. */
  signal?: AbortSignal;
}

export interface Generated {
  /** Without special tokens and the token that ends it. */
  text: string;
  /** Token ids, the end token included unless truncated. */
  tokens: Int32Array;
  /** Log-probability of each token under the distribution sampled from, cut as it was (under temperature 1 where that is 0). */
  logProbs: Float32Array;
  /** Cut off after `maxTokens`. */
  truncated: boolean;
  /** The ids that were completed. */
  prompt: Int32Array;
}
