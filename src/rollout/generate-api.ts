// What users of `generate` and `tokenLogProbs` write and get, in types that stand without tfjs.

import type { ChatMessage } from '../text/chat-template.js';

/** A text, a chat, or token ids, which are read as they are. */
export type Prompt = string | readonly ChatMessage[] | Int32Array;

export interface GenerateOptions {
  /** Tokens of a completion at most, the end token included. Default 256. */
  maxTokens?: number;
  /** Divides the logits; 0 takes the most likely token, the lowest id of equals. Default 1. */
  temperature?: number;
  /** Of the most likely tokens, those whose share of probability just reaches this are drawn from, in (0, 1]. Default: all. */
  topP?: number;
  /** As many of the most likely tokens are drawn from, at least 1. Default: all. */
  topK?: number;
  /** Tokens at least this share as likely as the most likely one are drawn from, in [0, 1]. Default: all. */
  minP?: number;
  /** Ids that end a completion, like the model's own end tokens. */
  stopTokens?: readonly number[];
  /** A completion ends with the token that completes one of these texts, which stays part of it. */
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
  /** Log-probability of each token under the distribution sampled from (under temperature 1 where that is 0). */
  logProbs: Float32Array;
  /** Cut off after `maxTokens`. */
  truncated: boolean;
  /** The ids that were completed. */
  prompt: Int32Array;
}
