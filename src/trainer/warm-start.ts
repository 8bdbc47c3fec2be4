// Supervised warm start: cross-entropy on a task's own solutions, so that reinforcement has something to reinforce.

import { presets } from '../loss/presets.js';
import type { Policy } from '../policy/policy.js';
import { grpoLoss } from '../tfjs/index.js';
import { AdamW, type AdamWOptions } from './adamw.js';
import { completionBatch } from './completions.js';
import type { TokenTask } from './token-task.js';
import { type UpdateResult, updatePolicy } from './update.js';

export interface WarmStartOptions {
  policy: Policy;
  train: TokenTask;
  steps: number;
  /** Solutions a step: example numbers step * batchSize and on. */
  batchSize: number;
  optimizer: AdamWOptions;
  /** Default 1. */
  maxGradientNorm?: number;
}

/** Yields after every step; the loss is the mean cross-entropy of a solution's tokens, in nats. */
export function* warmStart({
  policy,
  train,
  steps,
  batchSize,
  optimizer: options,
  maxGradientNorm = 1,
}: WarmStartOptions): Generator<UpdateResult & { step: number }> {
  const optimizer = new AdamW(policy.variables, options);
  // The policy gradient with every advantage 1 is the gradient of the cross-entropy: one loss serves both phases.
  const advantages = new Float32Array(batchSize).fill(1);
  try {
    for (let step = 0; step < steps; step++) {
      const batch = solutions(train, step * batchSize, batchSize);
      const { shape, targets: tokens, mask } = batch;
      const loss = () =>
        grpoLoss(policy.logits(batch.input, batch.from), { shape, tokens, mask, advantages }, presets.reinforce);
      yield { step, ...updatePolicy(policy, optimizer, loss, maxGradientNorm) };
    }
  } finally {
    optimizer.dispose();
  }
}

/** Examples first … first + count − 1 with their solutions and the end token. */
function solutions({ task, vocabulary, promptLength, maxTokens }: TokenTask, first: number, count: number) {
  const pairs = Array.from({ length: count }, (_, i) => {
    const { prompt, solution } = task.example(first + i);
    const completion = Int32Array.of(...vocabulary.encode(solution), vocabulary.end);
    return { prompt: vocabulary.encode(prompt), completion };
  });
  return completionBatch(pairs, { promptLength, length: maxTokens, padding: vocabulary.end });
}
