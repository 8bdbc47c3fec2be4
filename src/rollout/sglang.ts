// Rollouts by SGLang's native server API (/generate). Routes and fields follow SGLang's sources of 2026 (managers/io_struct.py).

import { checkObject } from '../base/check.js';
import type { RolloutEngine } from './engine.js';
import type { ServerProtocol, SglangOptions } from './server-api.js';
import { serverEngine } from './server-engine.js';
import { AnswerFault } from './servers.js';

interface Answer {
  output_ids?: unknown;
  meta_info?: {
    finish_reason?: { type?: unknown } | null;
    output_token_logprobs?: unknown;
    input_token_logprobs?: unknown;
    weight_version?: unknown;
  };
}

/** Entries [log-prob, id, text] of an answer. */
function entries(value: unknown): unknown[][] {
  return Array.isArray(value) ? value.filter(Array.isArray) : [];
}

const shared = {
  name: 'sglang',
  readScores(answer: unknown, tokens: Int32Array): unknown[] {
    const all = entries((answer as Answer).meta_info?.input_token_logprobs).slice(-(tokens.length - 1));
    return Array.from(tokens.subarray(1), (id, i) => (all[i]?.[1] === id ? all[i][0] : undefined));
  },
};

function protocolOf(loads: 'adapter' | 'model'): ServerProtocol {
  const lora = (name: string) => (loads === 'adapter' ? { lora_path: name } : {});
  return {
    ...shared,
    loads,
    complete: ({ prompt, maxTokens, temperature, seed, stopTokens, stopTexts, paddingTokens }, { name }) => ({
      path: '/generate',
      body: {
        input_ids: [...prompt],
        sampling_params: {
          n: 1,
          max_new_tokens: maxTokens,
          temperature,
          top_p: 1,
          top_k: -1,
          min_p: 0,
          repetition_penalty: 1,
          presence_penalty: 0,
          frequency_penalty: 0,
          sampling_seed: seed,
          stop_token_ids: [...stopTokens],
          ...(stopTexts.length > 0 && { stop: [...stopTexts], no_stop_trim: true }),
          ...(paddingTokens.length > 0 && { logit_bias: Object.fromEntries(paddingTokens.map((id) => [id, -100])) }),
        },
        return_logprob: true,
        stream: false,
        ...lora(name),
      },
    }),
    readCompletion(answer, { name }) {
      const { meta_info: meta } = answer as Answer;
      if (loads === 'model' && meta?.weight_version !== undefined && meta.weight_version !== name) {
        throw new AnswerFault(`the server has the weights ${JSON.stringify(meta.weight_version)}, not ${name}`);
      }
      const sampled = entries(meta?.output_token_logprobs);
      return {
        tokens: sampled.map(([, id]) => id),
        logProbs: sampled.map(([logProb]) => logProb),
        finish: meta?.finish_reason?.type,
      };
    },
    score: (tokens, { name }) => ({
      path: '/generate',
      body: {
        input_ids: [...tokens],
        sampling_params: { max_new_tokens: 1, temperature: 1, top_p: 1, top_k: -1 },
        return_logprob: true,
        logprob_start_len: 0,
        ...lora(name),
      },
    }),
    load: ({ name, path }) =>
      loads === 'adapter'
        ? { path: '/load_lora_adapter', body: { lora_name: name, lora_path: path } }
        : {
            path: '/update_weights_from_disk',
            body: { model_path: path, flush_cache: true, weight_version: name },
          },
    ...(loads === 'adapter' && {
      unload: (name: string) => ({ path: '/unload_lora_adapter', body: { lora_name: name } }),
    }),
  };
}

/**
 * Samples completions from SGLang servers, for the trainer's option `rollout`. The servers load each version of the policy's
 * (`adapterFolder`), or of all weights (`weightsFolder`). How to start them: docs/rollout.md.
 *
 * @throws TypeError or RangeError that names the option, what was expected and what was given
 *
 * @example
 * const trainer = await GrpoTrainer.create({
 *   policy: await PretrainedPolicy.load('models/Qwen2.5-0.5B-Instruct'),
 *   train,
 *   rollout: sglang({ urls: ['http://gpu-1:30000'], model: 'Qwen2.5-0.5B-Instruct', weightsFolder: '/shared/weights' }),
 * });
 */
export function sglang(options: SglangOptions): RolloutEngine {
  const { adapterFolder, weightsFolder } = checkObject('options', options) as unknown as SglangOptions;
  if ((adapterFolder === undefined) === (weightsFolder === undefined)) {
    const came = adapterFolder === undefined ? 'neither' : 'both';
    throw new TypeError(`options: expected either adapterFolder or weightsFolder, got ${came}`);
  }
  const loads = adapterFolder === undefined ? 'model' : 'adapter';
  return serverEngine(protocolOf(loads), options, { apiKeyVariable: 'SGLANG_API_KEY' });
}
