// What users choose of a transformer policy, in types that stand without tfjs.

import type { Vocabulary } from '../text/vocabulary.js';

/** The transformer's sizes by name: 0.1, 0.8 and 4.8 million parameters without the embedding. */
export type TransformerPreset = 'nano' | 'micro' | 'mini';

export interface TransformerPolicyOptions {
  /** Where sizes come from that are not given. Default `micro`. */
  preset?: TransformerPreset;
  layers?: number;
  /** Of the residual stream: a multiple of twice the number of heads. */
  width?: number;
  heads?: number;
  /** Heads of keys and values, a divisor of `heads`: fewer are grouped-query attention. Default: as many as `heads`. */
  keyValueHeads?: number;
  /** Width of the feed-forward blocks. */
  hidden?: number;
  /**
   * The characters that it reads and writes, usually `task.characters`, or a vocabulary of one's own. Nothing, as a task states that
   * does not generate its texts, is refused.
   */
  vocabulary: string | Vocabulary | undefined;
  /** Of its random weights. Default 0. */
  seed?: number;
  /** The tfjs backend to start. Default: the one that runs; where none does, the fastest that is installed. */
  backend?: 'groupgrad' | 'tensorflow' | 'wasm' | 'cpu';
}
