// Supervised warm start: cross-entropy on a task's own solutions, so that reinforcement has something to reinforce.

import { describe, typeError } from '../base/check.js';
import type { DeviceChoice } from '../devices/devices.js';
import { presets } from '../loss/presets.js';
import type { Policy } from '../model/policy.js';
import { evaluate } from '../rollout/evaluate.js';
import { encodePrompt, type TokenTask } from '../rollout/token-task.js';
import type { Example } from '../tasks/task.js';
import { encodeText } from '../text/vocabulary.js';
import { grpoLoss } from '../tfjs/index.js';
import { AdamW } from './adamw.js';
import { completionBatch, logitsOf } from './completions.js';
import type { WarmStartSettings } from './options.js';
import { updatePolicy } from './update.js';

export interface WarmStart<E extends Example> {
  policy: Policy;
  task: TokenTask<E>;
  /** The example at each place of the run; solutions are taken from place 0 on. */
  exampleAt: (place: number) => E;
  settings: WarmStartSettings;
  device: DeviceChoice;
}

export interface WarmStartStep {
  /** Updates made, from 1. */
  updates: number;
  /** Examples taken so far. */
  examples: number;
  /** Mean cross-entropy of a solution's tokens, in nats. */
  loss: number;
  /** The share of problems right, after the updates in which it was looked at. */
  accuracy?: number;
}

/** Yields after every update, until there were `steps` of them or the accuracy has reached `until`. */
export async function* warmStart<E extends Example>({
  policy,
  task,
  exampleAt,
  settings: { steps, batchSize, until, every, problems, optimizer: optimizerSettings },
  device,
}: WarmStart<E>): AsyncGenerator<WarmStartStep> {
  const optimizer = new AdamW(policy.variables, optimizerSettings);
  const probe = until === null ? [] : Array.from({ length: problems }, (_, i) => exampleAt(steps * batchSize + i));
  // The policy gradient with every advantage 1 is the gradient of the cross-entropy: one loss serves both phases.
  const advantages = new Float32Array(batchSize).fill(1);
  const options = { device, inPlace: policy.inPlace };
  try {
    for (let updates = 1; updates <= steps; updates++) {
      const examples = Array.from({ length: batchSize }, (_, i) => exampleAt((updates - 1) * batchSize + i));
      const batch = solutions(task, examples);
      const { shape, targets: tokens, mask } = batch;
      const { loss } = await updatePolicy(policy, optimizer, [
        () => grpoLoss(logitsOf(policy, batch), { shape, tokens, mask, advantages }, presets.reinforce, options),
      ]);
      const step: WarmStartStep = { updates, examples: updates * batchSize, loss };
      if (until !== null && updates % every === 0) step.accuracy = (await evaluate(policy, task, probe)).accuracy;
      yield step;
      if (step.accuracy !== undefined && step.accuracy >= until!) return;
    }
  } finally {
    optimizer.dispose();
  }
}

/** Examples with their solutions and the end token. */
function solutions(task: TokenTask, examples: readonly Example[]) {
  const { vocabulary, promptLength, maxTokens } = task;
  const pairs = examples.map(({ prompt, solution }) => {
    if (typeof solution !== 'string')
      throw typeError(`${task.task.name}, solution of ${describe(prompt)}`, 'a text', solution);
    const completion = Int32Array.of(...encodeText(vocabulary, solution), vocabulary.end);
    if (completion.length > maxTokens) {
      throw new RangeError(
        `${task.task.name}: expected solutions of at most ${maxTokens} tokens with their end (sampling.maxTokens), ` +
          `got ${completion.length} in ${JSON.stringify(solution)}`,
      );
    }
    return { prompt: encodePrompt(task, prompt), completion };
  });
  return completionBatch(pairs, { promptLength, length: maxTokens, padding: vocabulary.end });
}
