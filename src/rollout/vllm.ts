// Rollouts by vLLM's OpenAI-compatible server. Routes and fields follow vLLM's sources of 2026 (completion/protocol.py,
// serve/lora).

import type { RolloutEngine } from './engine.js';
import type { ServerProtocol, VllmOptions } from './server-api.js';
import { serverEngine } from './server-engine.js';

interface Answer {
  choices?: {
    token_ids?: unknown;
    finish_reason?: unknown;
    logprobs?: { token_logprobs?: unknown } | null;
    prompt_logprobs?: unknown;
  }[];
}

const protocol: ServerProtocol = {
  name: 'vllm',
  loads: 'adapter',
  complete: ({ prompt, maxTokens, temperature, seed, stopTokens, stopTexts, paddingTokens }, { name }) => ({
    path: '/v1/completions',
    body: {
      model: name,
      prompt: [...prompt],
      n: 1,
      max_tokens: maxTokens,
      temperature,
      top_p: 1,
      top_k: 0,
      min_p: 0,
      repetition_penalty: 1,
      presence_penalty: 0,
      frequency_penalty: 0,
      seed,
      logprobs: 0,
      return_token_ids: true,
      // The end tokens are those of the policy, not those of the server's configuration.
      ignore_eos: true,
      stop_token_ids: [...stopTokens],
      ...(stopTexts.length > 0 && { stop: [...stopTexts], include_stop_str_in_output: true }),
      ...(paddingTokens.length > 0 && { logit_bias: Object.fromEntries(paddingTokens.map((id) => [id, -100])) }),
      stream: false,
    },
  }),
  readCompletion(answer) {
    const choice = (answer as Answer).choices?.[0];
    return { tokens: choice?.token_ids, logProbs: choice?.logprobs?.token_logprobs, finish: choice?.finish_reason };
  },
  score: (tokens, { name }) => ({
    path: '/v1/completions',
    body: { model: name, prompt: [...tokens], max_tokens: 1, temperature: 1, top_p: 1, top_k: 0, prompt_logprobs: 0 },
  }),
  readScores(answer, tokens) {
    const scores = (answer as Answer).choices?.[0]?.prompt_logprobs;
    const all = Array.isArray(scores) ? (scores as (Record<string, { logprob?: unknown }> | null)[]) : [];
    return Array.from(tokens.subarray(1), (id, i) => all[i + 1]?.[id]?.logprob);
  },
  load: ({ name, path }) => ({ path: '/v1/load_lora_adapter', body: { lora_name: name, lora_path: path } }),
  unload: (name) => ({ path: '/v1/unload_lora_adapter', body: { lora_name: name } }),
};

/**
 * Samples completions from vLLM servers that load each version of the policy's adapter, for the trainer's option `rollout`. How to
 * start them: docs/rollout.md.
 *
 * @throws TypeError or RangeError that names the option, what was expected and what was given
 *
 * @example
 * const trainer = await GrpoTrainer.create({
 *   policy: await PretrainedPolicy.load('models/Qwen2.5-0.5B-Instruct', { lora: { rank: 16 } }),
 *   train,
 *   rollout: vllm({
 *     urls: ['http://gpu-1:8000', 'http://gpu-2:8000'],
 *     model: 'Qwen2.5-0.5B-Instruct',
 *     adapterFolder: '/shared/adapters',
 *   }),
 * });
 */
export function vllm(options: VllmOptions): RolloutEngine {
  return serverEngine(protocol, options, { apiKeyVariable: 'VLLM_API_KEY' });
}
