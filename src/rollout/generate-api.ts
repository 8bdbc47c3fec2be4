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
   * Cut the distribution as in transformers, in this order: to the `topK` most likely tokens, to the fewest of those whose share reaches
   * `topP`, in (0, 1], and to those at least `minP` times as likely as the most likely, in [0, 1]. Default: no cut.
   */
  topK?: number;
  topP?: number;
  minP?: number;
  /** A completion ends with the token that completes one of these texts, which stays part of it. */
  stop?: readonly string[];
  /** Ids that end a completion besides the policy's end tokens. */
  stopTokens?: readonly number[];
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
  /** Log-probability of each token under the distribution sampled from, after its cut (temperature 1 where that is 0). */
  logProbs: Float32Array;
  /** Nothing ended it within `maxTokens`. */
  truncated: boolean;
  /** The ids that were completed. */
  prompt: Int32Array;
}
