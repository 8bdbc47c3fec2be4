// The options and results of `generate` and `tokenLogProbs`, as types that do not need tfjs.

import type { ChatMessage } from '../text/chat-template.js';

/** A string, chat messages, or token ids, which are used as they are. */
export type Prompt = string | readonly ChatMessage[] | Int32Array;

export interface GenerateOptions {
  /** Maximum length of a completion in tokens, the end token included. Default 256. */
  maxTokens?: number;
  /** Divides the logits; 0 is greedy decoding, where ties go to the lowest id. Default 1. */
  temperature?: number;
  /** Nucleus sampling: draw from the fewest most likely tokens whose probability reaches this, in (0, 1]. Default 1: all. */
  topP?: number;
  /** Draw from this many of the most likely tokens, at least 1. Default: all. */
  topK?: number;
  /** Draw from tokens at least this many times as likely as the most likely one, in [0, 1]. Default 0: all. */
  minP?: number;
  /** Ids that end a completion, like the model's own end tokens. */
  stopTokens?: readonly number[];
  /** A completion ends with the token that completes one of these texts, which stays part of it. */
  stopTexts?: readonly string[];
  /** Seed of the random numbers, which are addressed by seed, prompt, sample and position. Default 0. */
  seed?: number;
  /** Completions per prompt. Default 1. */
  samples?: number;
  /** Interrupts sampling; its reason is thrown. */
  signal?: AbortSignal;
}

export interface Generated {
  /** The completion without special tokens and end token. */
  text: string;
  /** Token ids, the end token included unless truncated. */
  tokens: Int32Array;
  /** Log-probability of each token under the distribution it was sampled from (at temperature 1 if `temperature` is 0). */
  logProbs: Float32Array;
  /** Whether the completion reached `maxTokens`. */
  truncated: boolean;
  /** Token ids of the prompt. */
  prompt: Int32Array;
}
