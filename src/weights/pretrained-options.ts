// The options and the interface of a pretrained policy, as types that do not need tfjs.

import type { Precision } from '../backend/precision.js';
import type { PolicyLike } from '../model/policy-like.js';

/** Which linear layers get a new adapter, and of which kind (LoRA, arXiv 2106.09685). */
export interface LoraOptions {
  /** Rank of A and B, a positive integer. */
  rank: number;
  /** The adapter's output is multiplied by alpha / rank. Default: twice the rank. */
  alpha?: number;
  /**
   * The linear layers: suffixes of their paths in the Hugging Face model (`['q_proj', 'v_proj']`), a regular expression for
   * whole paths, or `all-linear` (default), which is all but the unembedding. The unembedding (`lm_head`) can be named, but
   * not where it is tied to the embedding: a RangeError.
   */
  targets?: string | readonly string[];
}

/** Types of weights, as transformers names them. */
export const weightTypes = ['float32', 'bfloat16', 'float16'] as const;
export type WeightType = (typeof weightTypes)[number];

export interface PretrainedOptions {
  /** Train only a LoRA adapter. Without `lora` and `adapter`, every weight is trained. */
  lora?: LoraOptions;
  /** A PEFT folder to continue from. If `lora` is given as well, it must match. */
  adapter?: string;
  /**
   * Weights are rounded to this type (to nearest, ties to even) when they are read, and saved in it. Default: each tensor's own
   * type. On the backend `groupgrad` the matrices that are frozen because only an adapter is trained take two bytes per weight in
   * memory if their type is bfloat16, without an effect on results; all other weights are held in float32.
   */
  dtype?: WeightType;
  /**
   * How matrix products are computed, in sampling and training: `bfloat16` rounds their factors to bfloat16 and sums in float32,
   * which is faster on processors with AMX or AVX512-BF16; trained weights, optimiser and attention stay in float32.
   * Only the backend `groupgrad` has it; on others it is a RangeError. Default: the backend's setting, `float32` unless
   * `setPrecision` of groupgrad/backend has changed it.
   */
  precision?: Precision;
  /** Seed of a new adapter's random A, a non-negative integer. Default 0. */
  seed?: number;
  /** The tfjs backend to start. Default: the current one; if there is none, the fastest that is installed. */
  backend?: 'groupgrad' | 'tensorflow' | 'wasm' | 'cpu';
  /**
   * Recompute each layer in the backward pass, so that only its input is kept (gradient checkpointing): far less memory, a
   * quarter more work, the same gradient. Default true.
   */
  recompute?: boolean;
  /** Called from time to time while weights are read, with the number read so far and the total. */
  onProgress?: (read: number, total: number) => void;
}

export interface SaveOptions {
  /**
   * Merge the adapter into the weights and write those. Default false. Without an adapter the weights are written in any
   * case.
   */
  merge?: boolean;
}

/** A language model from a folder in Hugging Face's layout, as loaded by `PretrainedPolicy.load`. */
export interface PretrainedPolicy extends PolicyLike {
  /** The folder that it was loaded from. */
  readonly folder: string;
  /** Number of weights of the model, and of those that are trained. */
  readonly weightCount: number;
  readonly trainedCount: number;
  /**
   * Writes the policy. With an adapter: a PEFT folder (adapter_config.json and adapter_model.safetensors). Without one, or with
   * `merge`: a Hugging Face folder with the weights in the types they were read in, in shards of at most 5 GB, and copies of the
   * loaded folder's configuration and tokenizer.
   *
   * @param folder created if it does not exist; it must not be the loaded one
   * @throws RangeError for a folder that holds other weights; the system's error if files cannot be read or written
   *
   * @example
   * await policy.save('out/adapter');
   * await policy.save('out/merged', { merge: true });
   */
  save(folder: string, options?: SaveOptions): Promise<void>;
}
