// The part of a policy's interface that does not need tfjs's types, which a program that trains nothing may not have.

import type { Tokenizer } from '../text/tokenizer.js';
import type { Vocabulary } from '../text/vocabulary.js';

/** A policy, as created by `TransformerPolicy.create`, `PretrainedPolicy.load` or `definePolicy` of groupgrad/tfjs. */
export interface PolicyLike {
  /** Converts text to the policy's token ids and back. */
  readonly tokenizer: Tokenizer;
  /** The vocabulary behind the tokenizer of a character-level policy. */
  readonly vocabulary?: Vocabulary;
  /** How a run folder records the policy: plain JSON. A run resumes only with a policy of the same description. */
  readonly description: Readonly<Record<string, unknown>>;
  /** Frees its weights. */
  dispose(): void;
}
