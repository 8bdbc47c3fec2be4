// What can be said of a policy without tfjs, whose types a program that trains nothing need not have.

import type { Tokenizer } from '../text/tokenizer.js';
import type { Vocabulary } from '../text/vocabulary.js';

/** A policy, as `TransformerPolicy.create`, `PretrainedPolicy.load` or `definePolicy` of groupgrad/tfjs makes it. */
export interface PolicyLike {
  /** From text to the ids that it reads and writes, and back. */
  readonly tokenizer: Tokenizer;
  /** What the tokenizer was made of, for a policy of characters. */
  readonly vocabulary?: Vocabulary;
  /** What a run folder says of it: plain JSON. A run resumes only with a policy of the same description. */
  readonly description: Readonly<Record<string, unknown>>;
  /** Frees its weights. */
  dispose(): void;
}
