// The interface of rollout engines: the policy's own sampler (sample.ts) is one, an HTTP server can be another. Prompts and
// are token ids; nothing is decoded and re-encoded.

import { type Bounds, checkNumber, checkObject, describe, isTypedArray, rangeError, typeError } from '../base/check.js';
import type { Tokenizer } from '../text/tokenizer.js';

/**
 * Generates completions for prompts. `vllm` and `sglang` make engines of servers; any object with these methods is one.
 *
 * @example
 * const recorded: RolloutEngine = {
 *   name: 'recorded',
 *   complete: async (requests) => requests.map(({ promptIndex, sample }) => completions[promptIndex][sample]),
 * };
 * const trainer = await GrpoTrainer.create({ policy, train, rollout: recorded });
 */
export interface RolloutEngine {
  /** Name of the engine, for messages. */
  readonly name: string;
  /** How config.json records the engine: plain JSON without secrets. A run resumes only with the same. Default: its name. */
  readonly description?: Readonly<Record<string, unknown>>;
  /** Whether completions of a truncated distribution come with the tokens that were kept. Default true. */
  readonly keepsTokens?: boolean;
  /**
   * Whether `update` may be called while completions are under way, and `complete` samples with the weights that its options name,
   * those of any `update` that are still in use. The trainer's `maxStaleness` needs it. Default false.
   */
  readonly keepsVersions?: boolean;
  /**
   * One completion per request, in the order of the requests. A completion depends on its request, the weights and the settings,
   * not on the other requests. Throws the signal's reason when it aborts, NumericFault for logits that are not finite.
   */
  complete(requests: readonly RolloutRequest[], options: RolloutOptions): Promise<Completion[]>;
  /**
   * Called before a step's completions, with the weights that are to generate them; `weights` may be used until the completions
   * have arrived. Omitted by engines that read the policy's own weights. `inUse`: weights of earlier updates that completions are
   * still asked for; an engine may release all others. Default: none.
   */
  update?(weights: RolloutWeights, options: { signal?: AbortSignal; inUse?: readonly RolloutWeights[] }): Promise<void>;
  /**
   * Called when a loop of steps ends, in whatever way: releases the weights that it holds elsewhere. `update` may follow again.
   * Should not take long, and its failure does not fail the run.
   */
  release?(): Promise<void>;
}

/** A policy's weights for an engine that has a copy of its own. */
export interface RolloutWeights {
  /** Identifies the run, also after it was resumed: hexadecimal digits. */
  run: string;
  /** The policy's tokenizer, and the number of its logits: ids from `tokenizer.vocabularySize` on are padding. */
  tokenizer: Tokenizer;
  logitsSize: number;
  /** Temperature of the completions. */
  temperature: number;
  /** Sequences of token ids, the same for every version of the weights, for comparing log-probs. */
  probes: readonly Int32Array[];
  /** Writes the adapter in PEFT's layout into a new folder. Omitted by policies without one. */
  saveAdapter?(folder: string): void | Promise<void>;
  /** Writes the model, with its adapter merged, in Hugging Face's layout. Omitted by policies that have no such layout. */
  saveModel?(folder: string): void | Promise<void>;
  /** log p(token i + 1 | tokens 0 … i) of sequences, at a temperature. */
  logProbs(sequences: readonly Int32Array[], temperature: number): Promise<Float32Array[]>;
  /** The same at temperature 1 without the adapter. Omitted by policies without one. */
  baseLogProbs?(sequences: readonly Int32Array[]): Promise<Float32Array[]>;
}

/** A prompt to complete once. */
export interface RolloutRequest {
  /** Token ids, at least one. Requests for the same prompt must have the same ids; it is prefilled once for all of them. */
  prompt: Int32Array;
  /** Index of the prompt in its step, and of the sample of that prompt: they address its random numbers. */
  promptIndex: number;
  sample: number;
}

/**
 * The distribution that tokens are drawn from is softmax(logits / temperature), truncated to the `topK` most likely tokens, of
 * those to the fewest whose probability reaches `topP`, and of those to the ones at least `minP` times as likely as the most
 * likely; each as in transformers. Of equally likely tokens the lower ids are kept.
 */
export interface SamplingSettings {
  /** Completions are truncated after this many tokens, the end token included. */
  maxTokens: number;
  /** Divides the logits; at least 0. With 0 decoding is greedy (ties go to the lowest id), whatever topP, topK and minP are. */
  temperature: number;
  /** In (0, 1]; default 1, no truncation. */
  topP?: number;
  /** At least 1; default: no truncation. */
  topK?: number;
  /** In [0, 1]; default 0, no truncation. */
  minP?: number;
  /** Ids that end a completion like the end tokens of the policy. */
  stopTokens?: readonly number[];
  /** A completion ends with the token that completes one of these texts, which stays part of it. */
  stopTexts?: readonly string[];
  /** Seed and step address the random numbers, together with the prompt, its sample and the position in the completion. */
  seed: number;
  step: number;
  /**
   * Maximum length of a prompt with its completion, for policies whose positions depend on it. Default: that of these
   * requests.
   */
  contextLength?: number;
}

export interface RolloutOptions extends SamplingSettings {
  /** The weights that sample, of an `update`. Default: those of the last one. */
  weights?: RolloutWeights;
  /** Interrupts: its reason is thrown. */
  signal?: AbortSignal;
  /** Called with each completion when it is complete, and the index of its request. */
  onCompletion?: (completion: Completion, index: number) => void;
}

export interface Completion {
  /** Token ids, including the end token; their number is the completion's length. */
  tokens: Int32Array;
  /**
   * Log-probability of each token under the distribution that it was drawn from: at the temperature (1 if that is 0), over all
   * logits of the policy, or over the kept tokens if the distribution was truncated.
   */
  logProbs: Float32Array;
  /** No token or text ended it within `maxTokens`. */
  truncated: boolean;
  /** With `topP`, `topK` or `minP`: the tokens that each token was drawn from. */
  kept?: KeptTokens;
}

/**
 * The tokens kept at each position of a truncated distribution. Stored with a completion, because its log-probs are normalised
 * over them.
 */
export interface KeptTokens {
  /** Ids for all positions, one position after the other, ascending within each. */
  ids: Int32Array;
  /** One more entry than positions: those of position t are ids[offsets[t]] … ids[offsets[t + 1] − 1]. */
  offsets: Int32Array;
}

/** Checks an engine. TypeError that names the field. */
export function checkEngine(field: string, value: unknown): RolloutEngine {
  const engine = checkObject(field, value) as unknown as RolloutEngine;
  if (typeof engine.name !== 'string' || engine.name === '')
    throw typeError(`${field}.name`, 'a non-empty string', engine.name);
  if (typeof engine.complete !== 'function') throw typeError(`${field}.complete`, 'a function', engine.complete);
  for (const method of ['update', 'release'] as const) {
    if (engine[method] !== undefined && typeof engine[method] !== 'function') {
      throw typeError(`${field}.${method}`, 'a function', engine[method]);
    }
  }
  return engine;
}

/** The settings that truncate a distribution. */
export type Cut = Pick<SamplingSettings, 'topP' | 'topK' | 'minP'>;

/** Whether tokens are drawn from a truncated distribution. */
export function isCut({ topP = 1, topK, minP = 0 }: Cut): boolean {
  return topP < 1 || topK !== undefined || minP > 0;
}

/** The valid ranges of these settings. */
export const cutBounds = {
  topP: { above: 0, max: 1 },
  topK: { min: 1, integer: true },
  minP: { min: 0, max: 1 },
} as const satisfies Record<keyof Cut, Bounds>;

const maxAddress = 2 ** 31 - 1;

/** Checks settings. TypeError or RangeError that names the field, prefixed with `at`, such as `sampling.`. */
export function checkSamplingSettings(at: string, given: SamplingSettings): void {
  const settings = checkObject(at.slice(0, -1) || 'settings', given) as unknown as SamplingSettings;
  checkNumber(`${at}maxTokens`, settings.maxTokens, { min: 1, integer: true });
  checkNumber(`${at}temperature`, settings.temperature, { min: 0 });
  checkNumber(`${at}seed`, settings.seed, { min: 0, integer: true });
  checkNumber(`${at}step`, settings.step, { min: 0, max: maxAddress, integer: true });
  for (const name of ['topP', 'topK', 'minP'] as const) {
    if (settings[name] !== undefined) checkNumber(`${at}${name}`, settings[name], cutBounds[name]);
  }
  checkStops(at, { stopTokens: settings.stopTokens, stopTexts: settings.stopTexts });
  if (settings.contextLength !== undefined) {
    checkNumber(`${at}contextLength`, settings.contextLength, { min: 1, integer: true });
  }
}

/** Checks what ends a completion besides end tokens. */
export function checkStops(at: string, { stopTokens, stopTexts }: Record<'stopTokens' | 'stopTexts', unknown>): void {
  const list = (field: string, of: string, value: unknown): unknown[] => {
    if (Array.isArray(value)) return value;
    throw typeError(field, `an array of ${of}`, value);
  };
  for (const [i, id] of list(`${at}stopTokens`, 'token ids', stopTokens ?? []).entries()) {
    checkNumber(`${at}stopTokens[${i}]`, id, { min: 0, integer: true });
  }
  for (const [i, text] of list(`${at}stopTexts`, 'strings', stopTexts ?? []).entries()) {
    if (typeof text !== 'string') throw typeError(`${at}stopTexts[${i}]`, 'a string', text);
    if (text === '') throw rangeError(`${at}stopTexts[${i}]`, 'a non-empty string', describe(text));
  }
}

/** Checks requests to a policy whose ids are below `size`. TypeError or RangeError that names the field. */
export function checkRequests(requests: readonly RolloutRequest[], size: number): void {
  if (!Array.isArray(requests)) throw typeError('requests', 'an array of requests', requests);
  const prompts = new Map<number, Int32Array>();
  for (const [i, request] of requests.entries()) {
    const { prompt, promptIndex, sample } = checkObject(`requests[${i}]`, request) as unknown as RolloutRequest;
    checkNumber(`requests[${i}].promptIndex`, promptIndex, { min: 0, max: maxAddress, integer: true });
    checkNumber(`requests[${i}].sample`, sample, { min: 0, max: maxAddress, integer: true });
    const known = prompts.get(promptIndex);
    if (known === prompt) continue;
    const field = `requests[${i}].prompt`;
    if (!isTypedArray(prompt, 'Int32Array')) throw typeError(field, 'an Int32Array', prompt);
    if (prompt.length === 0) throw rangeError(field, 'at least one token', 'none');
    const outside = prompt.find((id) => id < 0 || id >= size);
    if (outside !== undefined) throw rangeError(field, `token ids from 0 to ${size - 1}`, String(outside));
    if (known && (known.length !== prompt.length || known.some((id, t) => id !== prompt[t]))) {
      throw rangeError(field, `the same tokens as in the other requests of prompt ${promptIndex}`, 'different ones');
    }
    prompts.set(promptIndex, prompt);
  }
}
