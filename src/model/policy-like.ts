// What can be said of a policy without tfjs, whose types a program that trains nothing need not have.

import type { Vocabulary } from '../text/vocabulary.js';

/** A policy, as `TransformerPolicy.create` or `definePolicy` of groupgrad/tfjs makes it. */
export interface PolicyLike {
  readonly vocabulary: Vocabulary;
  /** What a run folder says of it: plain JSON. A run resumes only with a policy of the same description. */
  readonly description: Readonly<Record<string, unknown>>;
  /** Frees its weights. */
  dispose(): void;
}
