// The options of engines that are servers, and what vLLM's protocol and SGLang's have in common.

import type { RolloutWeights } from './engine.js';

export interface ServerOptions {
  /** Where the servers are: `http://host:8000`. Prompts are spread over them. All serve the same model. */
  urls: readonly string[];
  /** Name of the environment variable that holds the API key. Without it no key is sent. */
  apiKeyVariable?: string;
  /** Requests at the same time on each server. Default 64. */
  concurrency?: number;
  /** How many times a request is repeated, and a server that fails is tried again. Default 8: two minutes of back-off. */
  retries?: number;
  /** Milliseconds before a server that has failed is tried again; doubles with each failure, up to 30 s. Default 500. */
  backOff?: number;
  /** Milliseconds that a request may take, at most 300,000, where Node's fetch ends it. Default 240,000. */
  timeLimit?: number;
  /**
   * How far a server's log-probs of the probes may be from the policy's own, as a mean of absolute differences in nats, whenever it
   * has loaded a version of the weights. Default 0.1.
   */
  maxProbeDifference?: number;
  /** How many of the newest versions of the weights keep their folders; versions in use do in any case. Default 2. */
  keepLast?: number;
  /** `adapterFolder` (or `weightsFolder`) as the servers see it. Default: the same absolute path. */
  serverFolder?: string;
}

export interface VllmOptions extends ServerOptions {
  /** The base model's name on the servers (`--served-model-name`; by default its path). */
  model: string;
  /** A folder that the servers can read too. Each version of the adapter becomes a folder in it. */
  adapterFolder: string;
  /** Default `VLLM_API_KEY`. */
  apiKeyVariable?: string;
}

export interface SglangOptions extends ServerOptions {
  /** The model's name on the servers, for the run's records. */
  model: string;
  /** A folder that the servers can read too. Each version of the adapter becomes a folder in it. Either this or `weightsFolder`. */
  adapterFolder?: string;
  /** The same for whole models, which servers load from disk: for policies without an adapter. */
  weightsFolder?: string;
  /** Default `SGLANG_API_KEY`. */
  apiKeyVariable?: string;
}

/** A POST request: its path and JSON body. */
export interface ServerRequest {
  path: string;
  body: Record<string, unknown>;
}

/** What a completion is asked with. */
export interface CompletionQuery {
  prompt: Int32Array;
  maxTokens: number;
  temperature: number;
  seed: number;
  stopTokens: readonly number[];
  stopTexts: readonly string[];
  /** Ids that must not be sampled. */
  paddingTokens: readonly number[];
}

/** A version of the weights as a server knows it. */
export interface ServerVersion {
  name: string;
  /** The folder as the server sees it. */
  path: string;
}

/** Numbers of an answer, unchecked. */
export interface RawCompletion {
  tokens: unknown;
  logProbs: unknown;
  /** `stop`: an end token or text; `length`; anything else means that it was not completed. */
  finish: unknown;
}

/** How a kind of server is spoken to. */
export interface ServerProtocol {
  name: string;
  /** What is loaded: an adapter beside the model, or the whole model. */
  loads: 'adapter' | 'model';
  complete(query: CompletionQuery, version: ServerVersion): ServerRequest;
  readCompletion(answer: unknown, version: ServerVersion): RawCompletion;
  /** Asks for the log-probs of given tokens, at temperature 1. */
  score(tokens: Int32Array, version: ServerVersion): ServerRequest;
  /** One number for each token but the first, unchecked. */
  readScores(answer: unknown, tokens: Int32Array): unknown[];
  load(version: ServerVersion): ServerRequest;
  /** Omitted where a version replaces the one before. */
  unload?(name: string): ServerRequest;
}

/** Writes a version of the weights into a folder. TypeError for a policy that has nothing of the kind. */
export async function saveVersion(loads: 'adapter' | 'model', weights: RolloutWeights, folder: string): Promise<void> {
  if (loads === 'adapter') {
    if (!weights.saveAdapter) {
      throw new TypeError(
        'policy: expected one with an adapter (lora) for a rollout engine with adapterFolder, got one without',
      );
    }
    await weights.saveAdapter(folder);
    return;
  }
  if (!weights.saveModel) {
    throw new TypeError(
      'policy: expected a model from a folder (PretrainedPolicy) for a rollout engine with weightsFolder',
    );
  }
  await weights.saveModel(folder);
}
