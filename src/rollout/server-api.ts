// The options of HTTP rollout engines, and the interface that covers both vLLM's protocol and SGLang's.

import type { RolloutWeights } from './engine.js';

export interface ServerOptions {
  /** Base URLs: `http://host:8000`. Prompts are distributed over the servers, which all serve the same model. */
  urls: readonly string[];
  /** Name of the environment variable that holds the API key. Without it no key is sent. */
  apiKeyVariable?: string;
  /** Concurrent requests per server. Default 64. */
  concurrency?: number;
  /** How many times a failed request is repeated, and a failed server is tried again. Default 8: two minutes of back-off. */
  retries?: number;
  /** Milliseconds until a failed server is tried again; doubles with each failure, up to 30 s. Default 500. */
  backOff?: number;
  /** Time limit of a request in milliseconds, at most 300,000, the limit of Node's fetch. Default 240,000. */
  timeLimit?: number;
  /**
   * Bound of the mean absolute difference, in nats, between a server's log-probs of the probes and the policy's own. Checked
   * whenever a server has loaded a version of the weights. Default 0.1.
   */
  maxProbeDifference?: number;
  /** How many of the newest versions of the weights keep their folders; versions in use do in any case. Default 2. */
  keepLast?: number;
  /** `adapterFolder` (or `weightsFolder`) as the servers see it. Default: its absolute path on this machine. */
  serverFolder?: string;
}

export interface VllmOptions extends ServerOptions {
  /** The base model's name on the servers (`--served-model-name`; by default its path). */
  model: string;
  /** A folder that the servers can read too. Each version of the adapter becomes a subfolder. */
  adapterFolder: string;
  /** Default `VLLM_API_KEY`. */
  apiKeyVariable?: string;
}

export interface SglangOptions extends ServerOptions {
  /** The model's name on the servers, for the run's records. */
  model: string;
  /** A folder that the servers can read too. Each version of the adapter becomes a subfolder. Either this or `weightsFolder`. */
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

/** What is requested for a completion. */
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

/** A version of the weights as a server identifies it. */
export interface ServerVersion {
  name: string;
  /** The folder as the server sees it. */
  path: string;
}

/** The fields of a server's response, unchecked. */
export interface RawCompletion {
  tokens: unknown;
  logProbs: unknown;
  /** `stop`: an end token or text; `length`; anything else means that the completion failed. */
  finish: unknown;
}

/** The requests and responses of a kind of server. */
export interface ServerProtocol {
  name: string;
  /** What a server loads: an adapter beside the model, or the whole model. */
  loads: 'adapter' | 'model';
  complete(query: CompletionQuery, version: ServerVersion): ServerRequest;
  readCompletion(answer: unknown, version: ServerVersion): RawCompletion;
  /** Requests the log-probs of given tokens, at temperature 1. */
  score(tokens: Int32Array, version: ServerVersion): ServerRequest;
  /** One number for each token except the first, unchecked. */
  readScores(answer: unknown, tokens: Int32Array): unknown[];
  load(version: ServerVersion): ServerRequest;
  /** Omitted if a version replaces the one before. */
  unload?(name: string): ServerRequest;
}

/** Writes a version of the weights into a folder. TypeError for a policy that has no adapter or no such layout. */
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
