// The trainer as exported by the package's root: TensorFlow.js, which programs that train nothing need not install, is loaded
// when a policy or a trainer is created.

import { withTfjs } from '../base/missing-tfjs.js';
import type { PolicyLike } from '../model/policy-like.js';
import type { TransformerPolicyOptions } from '../model/transformer-options.js';
import type { Example } from '../tasks/task.js';
import type { PretrainedPolicy as Pretrained, PretrainedOptions } from '../weights/pretrained-options.js';
import type { GrpoTrainer as Trainer, TrainerOptions } from './api.js';

/** A run of GRPO. */
export type GrpoTrainer<E extends Example = Example> = Trainer<E>;

export const GrpoTrainer = {
  /**
   * A trainer that begins a run, or resumes the one in `runDir`.
   * @throws TypeError or RangeError that names the option, what was expected and what was given; Error if a run must not be
   *   resumed.
   */
  async create<E extends Example>(options: TrainerOptions<E>): Promise<GrpoTrainer<E>> {
    const { createTrainer } = await withTfjs('the trainer', () => import('./grpo.js'));
    return createTrainer(options);
  },
} as const;

export const TransformerPolicy = {
  /**
   * A decoder-only transformer with random weights (RMSNorm, rotary positions, SwiGLU, tied embeddings), on the fastest tfjs
   * backend that is installed unless one is already running.
   * @throws TypeError or RangeError that names the option, what was expected and what was given.
   */
  async create(options: TransformerPolicyOptions): Promise<PolicyLike> {
    const { createTransformerPolicy } = await withTfjs(
      'the transformer policy',
      () => import('../model/transformer-policy.js'),
    );
    return createTransformerPolicy(options);
  },
} as const;

/** A language model from a folder in Hugging Face's layout. */
export type PretrainedPolicy = Pretrained;

export const PretrainedPolicy = {
  /**
   * Loads a model of the families Llama, Qwen2, Qwen3, SmolLM3, Mistral, Gemma 2 and 3 or Phi-3 with its tokenizer and chat template,
   * on the fastest tfjs backend that is installed unless one is already running. Weights are F32, BF16 or F16 in one safetensors
   * file or in shards, and are held in float32, or in bfloat16 as the option `dtype` says. A folder without tokenizer.json can only be used with token ids.
   *
   * @param folder config.json, the weights, tokenizer.json and its related files
   * @throws TypeError or RangeError, before memory is allocated, that names the file or option: an unknown family, kind of rotary
   *   positions or adapter, quantised weights, a tensor that is missing, unexpected or of the wrong shape, a tokenizer with ids
   *   that the model has no row for
   *
   * @example
   * const policy = await PretrainedPolicy.load('models/Qwen2.5-0.5B-Instruct', {
   *   lora: { rank: 16, alpha: 32, targets: 'all-linear' },
   * });
   */
  async load(folder: string, options: PretrainedOptions = {}): Promise<PretrainedPolicy> {
    const { loadPretrainedPolicy } = await withTfjs(
      'the pretrained policy',
      () => import('../weights/pretrained-policy.js'),
    );
    return loadPretrainedPolicy(folder, options);
  },
} as const;
