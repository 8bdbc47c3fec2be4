// The options of a transformer policy, as types that do not need tfjs.

import type { Precision } from '../backend/precision.js';
import type { Vocabulary } from '../text/vocabulary.js';

/** Named transformer sizes: 0.1, 0.8 and 4.8 million parameters without the embedding. */
export type TransformerPreset = 'nano' | 'micro' | 'mini';

export interface TransformerPolicyOptions {
  /** Supplies the sizes that are not given. Default `micro`. */
  preset?: TransformerPreset;
  layers?: number;
  /** Width of the residual stream: a multiple of twice the number of heads. */
  width?: number;
  heads?: number;
  /** Heads of keys and values, a divisor of `heads`; fewer give grouped-query attention. Default: `heads`. */
  keyValueHeads?: number;
  /** Width of the feed-forward blocks. */
  hidden?: number;
  /**
   * The characters that it reads and writes, usually `task.characters`, or your own vocabulary. undefined, which tasks that do
   * not generate their texts have as `characters`, is an error.
   */
  vocabulary: string | Vocabulary | undefined;
  /** Seed of its random weights. Default 0. */
  seed?: number;
  /** The tfjs backend to start. Default: the current one; if there is none, the fastest that is installed. */
  backend?: 'groupgrad' | 'tensorflow' | 'wasm' | 'cpu';
  /** How matrix products are computed; see `PretrainedOptions`. */
  precision?: Precision;
}
