// What users choose of a pretrained policy, and what they get, in types that stand without tfjs.

import type { PolicyLike } from '../model/policy-like.js';

/** Which linear maps get a new adapter, and of which kind (LoRA, arXiv 2106.09685). */
export interface LoraOptions {
  /** Rank of A and B, a positive integer. */
  rank: number;
  /** The adapter's output is multiplied by alpha / rank. Default: twice the rank. */
  alpha?: number;
  /**
   * The linear maps: ends of their paths in the Hugging Face model (`['q_proj', 'v_proj']`), a regular expression for whole
   * paths, or `all-linear` (default). The unembedding (`lm_head`) cannot be one.
   */
  targets?: string | readonly string[];
}

/** Types of weights, as transformers names them. */
export const weightTypes = ['float32', 'bfloat16', 'float16'] as const;
export type WeightType = (typeof weightTypes)[number];

export interface PretrainedOptions {
  /** Train a LoRA adapter and nothing else. Left out, and without `adapter`: every weight is trained. */
  lora?: LoraOptions;
  /** A PEFT folder to go on from. `lora` beside it may only say what the adapter is. */
  adapter?: string;
  /**
   * Weights are rounded to this type when they are read, and saved in it. They are computed with, and trained, in float32. Default:
   * each tensor's own type.
   */
  dtype?: WeightType;
  /** Of the random values of a new adapter's A, a non-negative integer. Default 0. */
  seed?: number;
  /** The tfjs backend to start. Default: the one that runs; where none does, the fastest that is installed. */
  backend?: 'groupgrad' | 'tensorflow' | 'wasm' | 'cpu';
  /**
   * Each layer is computed again in the backward pass, which then keeps its input alone: far less memory, a quarter more work, the
   * same gradient. Default true.
   */
  recompute?: boolean;
  /** Called now and then while weights are read, with the number that have been, and that of all. */
  onProgress?: (read: number, total: number) => void;
}

export interface SaveOptions {
  /** Add the adapter to the weights, and write those. Default false. Without an adapter the weights are written anyway. */
  merge?: boolean;
}

/** A language model from a folder in Hugging Face's layout, as `PretrainedPolicy.load` makes it. */
export interface PretrainedPolicy extends PolicyLike {
  /** The folder that it was loaded from. */
  readonly folder: string;
  /** Number of weights of the model, and of those that are trained. */
  readonly weightCount: number;
  readonly trainedCount: number;
  /**
   * Writes the policy as it is. With an adapter: a PEFT folder (adapter_config.json and adapter_model.safetensors). Without, or
   * with `merge`: a Hugging Face folder, the weights in the types that they were read in, in shards of at most 5 GB, beside copies
   * of the loaded folder's configuration and tokenizer.
   *
   * @param folder is made where it is not there; it may not be the loaded one
   * @throws RangeError for a folder that holds other weights; the system's error where files cannot be read or written
   *
   * @example
   * await policy.save('out/adapter');
   * await policy.save('out/merged', { merge: true });
   */
  save(folder: string, options?: SaveOptions): Promise<void>;
}
