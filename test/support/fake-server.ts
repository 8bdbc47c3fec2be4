// vLLM's and SGLang's routes on a local port, computed by our own policy with the loaded adapters, with
// faults on demand.

import http from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { tokenLogProbsOf } from '../../src/rollout/generate.js';
import { policySampler } from '../../src/rollout/sample.js';
import { type LoadedPolicy, loadPretrainedPolicy } from '../../src/weights/pretrained-policy.js';

export interface Faults {
  /** Milliseconds before the response to each completion. */
  delay?: number;
  /** How many requests fail with this status, or with a closed connection. */
  status?: { code: number; times: number; text?: string };
  closed?: number;
  /** Closes the connection of every completion from here on, like a server that dies. */
  isDead?: boolean;
  /** Responds without the adapter, or with the first one that was loaded. */
  adapter?: 'none' | 'first';
  /** Completions, but not scores, are those of the first adapter. */
  isCacheStale?: boolean;
  /** The first id of every completion. */
  id?: number;
  /** Log-probs of completions are those at temperature 1. */
  withoutTemperature?: boolean;
  finish?: string;
}

/** Fields of all requests. */
export interface Body {
  model?: string;
  prompt: number[];
  prompt_logprobs?: number;
  logprobs?: number;
  max_tokens: number;
  temperature: number;
  top_p?: number;
  top_k?: number;
  seed: number;
  stop_token_ids: number[];
  ignore_eos?: boolean;
  logit_bias?: Record<string, number>;
  lora_name: string;
  lora_path: string;
  model_path: string;
  weight_version: string;
  input_ids: number[];
  logprob_start_len?: number;
  return_logprob?: boolean;
  sampling_params: {
    max_new_tokens: number;
    temperature: number;
    sampling_seed: number;
    stop_token_ids: number[];
    top_p?: number;
    top_k?: number;
  };
}

export interface FakeServer {
  url: string;
  faults: Faults;
  /** Path and body of every request that got a response. */
  requests: { path: string; body: Body; key: string | undefined }[];
  /** Names of the loaded adapters. */
  readonly loaded: string[];
  /** Asked before a completion is computed: a status to answer with, or `close` to close the connection. */
  onCompletion: ((body: Body) => Promise<number | 'close' | undefined>) | undefined;
  /** Completions at the same time, at most. */
  maxAtOnce: number;
  completions: number;
  /** Completions whose connection the client has closed. */
  abandoned: number;
  /** Adapters loaded at the same time, at most. */
  mostLoaded: number;
  /** Versions that were unloaded or replaced while completions with them were at work. */
  lostInUse: string[];
  /** Loses what was loaded, as a server that is started anew. */
  restart(): void;
}

interface Answer {
  status: number;
  body: unknown;
}

interface Sampled {
  tokens: number[];
  logProbs: number[];
  finish: string;
}

/** Keeps no process alive. */
const sleep = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds).unref());

/** A server of a model folder. It ends with its test. */
export async function fakeServer(t: TestContext, model: string, faults: Faults = {}): Promise<FakeServer> {
  let base = (await loadPretrainedPolicy(model)) as LoadedPolicy;
  const adapters = new Map<string, LoadedPolicy>();
  let first: LoadedPolicy | undefined;
  let weightVersion = 'default';
  let atOnce = 0;
  /** Completions at work. */
  const atWork = new Set<{ adapter: string | undefined }>();

  const policyOf = (name: string | undefined, isCompletion: boolean): LoadedPolicy | undefined => {
    const own = name === undefined ? base : adapters.get(name);
    if (!own || name === undefined) return own;
    if (server.faults.adapter === 'none') return base;
    return server.faults.adapter === 'first' || (isCompletion && server.faults.isCacheStale) ? first! : own;
  };
  const score = async (policy: LoadedPolicy, ids: number[]) => [
    ...(await tokenLogProbsOf(policy, [Int32Array.from(ids)]))[0],
  ];
  const sample = async (
    policy: LoadedPolicy,
    prompt: number[],
    settings: { maxTokens: number; temperature: number; seed: number; stopTokens: number[] },
  ): Promise<Sampled> => {
    const requests = [{ prompt: Int32Array.from(prompt), promptIndex: 0, sample: 0 }];
    const [{ tokens, logProbs, truncated }] = await policySampler(policy).complete(requests, { ...settings, step: 0 });
    const ids = [...tokens];
    const { id, withoutTemperature, finish } = server.faults;
    const raw = (await score(policy, [...prompt, ...ids])).slice(-ids.length);
    if (id !== undefined) ids[0] = id;
    return {
      tokens: ids,
      logProbs: withoutTemperature ? raw : [...logProbs],
      finish: finish ?? (truncated ? 'length' : 'stop'),
    };
  };
  const load = async (name: string, path: string): Promise<Answer> => {
    if (adapters.has(name)) return { status: 400, body: { message: `adapter '${name}' has already been loaded` } };
    const policy = await loadPretrainedPolicy(model, { adapter: path });
    adapters.set(name, policy);
    server.mostLoaded = Math.max(server.mostLoaded, adapters.size);
    first ??= policy;
    return { status: 200, body: {} };
  };
  const unload = (name: string): Answer => {
    if ([...atWork].some(({ adapter }) => adapter === name)) server.lostInUse.push(name);
    // `first` may still be answered with.
    if (!adapters.delete(name)) return { status: 404, body: { message: `adapter ${name} is not loaded` } };
    return { status: 200, body: {} };
  };

  async function vllm(body: Body): Promise<Answer> {
    const policy = policyOf(body.model, body.prompt_logprobs === undefined);
    if (!policy) return { status: 404, body: { error: { message: `The model ${body.model} does not exist.` } } };
    if (body.prompt_logprobs !== undefined) {
      const scores = await score(policy, body.prompt);
      const prompt_logprobs = [null, ...scores.map((logprob, i) => ({ [body.prompt[i + 1]]: { logprob } }))];
      return { status: 200, body: { choices: [{ prompt_logprobs, token_ids: [0], finish_reason: 'length' }] } };
    }
    const { tokens, logProbs, finish } = await sample(policy, body.prompt, {
      maxTokens: body.max_tokens,
      temperature: body.temperature,
      seed: body.seed,
      stopTokens: body.stop_token_ids,
    });
    const choice = { token_ids: tokens, logprobs: { token_logprobs: logProbs }, finish_reason: finish };
    return { status: 200, body: { choices: [choice] } };
  }

  async function sglang(body: Body): Promise<Answer> {
    const isScore = body.logprob_start_len !== undefined;
    const policy = policyOf(body.lora_path, !isScore);
    if (!policy) return { status: 400, body: { error: { message: `adapters not loaded: ${body.lora_path}` } } };
    if (isScore) {
      const scores = await score(policy, body.input_ids);
      const input_token_logprobs = [null, ...scores].map((value, i) => [value, body.input_ids[i], null]);
      return { status: 200, body: { meta_info: { input_token_logprobs, weight_version: weightVersion } } };
    }
    const {
      max_new_tokens: maxTokens,
      temperature,
      sampling_seed: seed,
      stop_token_ids: stopTokens,
    } = body.sampling_params;
    const { tokens, logProbs, finish } = await sample(policy, body.input_ids, {
      maxTokens,
      temperature,
      seed,
      stopTokens,
    });
    const meta_info = {
      output_token_logprobs: tokens.map((id, i) => [logProbs[i], id, null]),
      finish_reason: { type: finish },
      weight_version: weightVersion,
    };
    return { status: 200, body: { output_ids: tokens, meta_info } };
  }

  async function answer(path: string, body: Body): Promise<Answer> {
    switch (path) {
      case '/v1/completions':
        return vllm(body);
      case '/generate':
        return sglang(body);
      case '/v1/load_lora_adapter':
      case '/load_lora_adapter':
        return load(body.lora_name, body.lora_path);
      case '/v1/unload_lora_adapter':
      case '/unload_lora_adapter':
        return unload(body.lora_name);
      case '/update_weights_from_disk':
        if (atWork.size > 0) server.lostInUse.push(weightVersion);
        base = await loadPretrainedPolicy(body.model_path);
        weightVersion = body.weight_version;
        return { status: 200, body: { success: true, message: 'Succeeded to update model weights.' } };
      default:
        return { status: 404, body: { message: 'no such route' } };
    }
  }

  const isCompletion = (path: string, body: Body) =>
    /completions$|generate$/.test(path) && body.prompt_logprobs === undefined && body.logprob_start_len === undefined;

  const listener = http.createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const path = request.url!;
    const body = JSON.parse(Buffer.concat(chunks).toString()) as Body;
    const { faults } = server;
    if (faults.isDead || (faults.closed ?? 0) > 0) {
      if (faults.closed) faults.closed--;
      request.socket.destroy();
      return;
    }
    if (faults.status && faults.status.times > 0) {
      faults.status.times--;
      response.writeHead(faults.status.code).end(faults.status.text ?? 'a fault');
      return;
    }
    atOnce++;
    server.maxAtOnce = Math.max(server.maxAtOnce, atOnce);
    const counts = isCompletion(path, body);
    const work = { adapter: body.model ?? body.lora_path };
    if (counts) {
      atWork.add(work);
      response.once('close', () => {
        if (atWork.delete(work)) server.abandoned++;
      });
    }
    if (counts && faults.delay) await sleep(faults.delay);
    const outcome = counts ? await server.onCompletion?.(body) : undefined;
    if (outcome !== undefined) {
      atOnce--;
      atWork.delete(work);
      if (outcome === 'close') request.socket.destroy();
      else response.writeHead(outcome).end('a fault');
      return;
    }
    server.requests.push({ path, body, key: request.headers.authorization });
    const result = await answer(path, body).catch((error: Error) => ({
      status: 500,
      body: { message: error.message },
    }));
    atOnce--;
    atWork.delete(work);
    // It may have died in the meantime.
    if (server.faults.isDead) return void request.socket.destroy();
    if (counts) server.completions++;
    response.writeHead(result.status, { 'content-type': 'application/json' }).end(JSON.stringify(result.body));
  });
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    listener.closeAllConnections();
    listener.close();
  });
  const server: FakeServer = {
    url: `http://127.0.0.1:${(listener.address() as AddressInfo).port}`,
    faults,
    requests: [],
    get loaded() {
      return [...adapters.keys()];
    },
    onCompletion: undefined,
    maxAtOnce: 0,
    completions: 0,
    abandoned: 0,
    mostLoaded: 0,
    lostInUse: [],
    restart: () => adapters.clear(),
  };
  return server;
}
