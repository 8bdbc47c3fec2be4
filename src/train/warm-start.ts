// Supervised warm start: cross-entropy on a task's own solutions, so that some completions are right before reinforcement begins.

import { describe, rangeError, typeError } from '../base/check.js';
import type { DeviceChoice } from '../devices/devices.js';
import { evaluate } from '../evaluation/evaluate.js';
import { greedy } from '../evaluation/sampling.js';
import { presets } from '../loss/presets.js';
import type { Policy } from '../model/policy.js';
import { encodePrompts, type TokenTask } from '../rollout/token-task.js';
import type { Example } from '../tasks/task.js';
import { encodeOne, paddingOf, type Tokenizer } from '../text/tokenizer.js';
import type { AdamW } from './adamw.js';
import { batchLoss, lossSource } from './batch-loss.js';
import { completionBatch } from './completions.js';
import type { WarmStartSettings } from './options.js';
import { updatePolicy } from './update.js';

export interface WarmStart<E extends Example> {
  policy: Policy;
  task: TokenTask<E>;
  /** The example at each position of the run; solutions are taken from position 0 on. */
  exampleAt: (place: number) => E;
  settings: WarmStartSettings;
  device: DeviceChoice;
  /** The warm start continues after the updates that this optimizer has made. */
  optimizer: AdamW;
  /** Interrupts the warm start between two updates or during a check of the accuracy; its reason is thrown. */
  signal?: AbortSignal;
}

/** An update, or a check of the accuracy after it. */
export interface WarmStartStep {
  /** Number of updates made, from 1. */
  updates: number;
  /** Examples taken so far. */
  examples: number;
  /** After an update: the mean cross-entropy of a solution's tokens, in nats. */
  loss?: number;
  /** After a check: the share of problems solved. */
  accuracy?: number;
}

/**
 * Yields after every update and after every check of the accuracy, until `steps` updates have been made or the accuracy has
 * reached `until`.
 */
export async function* warmStart<E extends Example>({
  policy,
  task,
  exampleAt,
  settings: { steps, batchSize, until, every, problems },
  device,
  optimizer,
  signal,
}: WarmStart<E>): AsyncGenerator<WarmStartStep> {
  const probe = until === null ? [] : Array.from({ length: problems }, (_, i) => exampleAt(steps * batchSize + i));
  // The policy gradient with every advantage 1 is the gradient of the cross-entropy, so both phases use the same loss.
  const advantages = new Float32Array(batchSize).fill(1);
  for (;;) {
    const { updates } = optimizer;
    // Repeated after the run is resumed, which changes nothing.
    if (until !== null && updates > 0 && updates % every === 0) {
      const { accuracy } = await evaluate(policy, task, probe, greedy, signal);
      yield { updates, examples: updates * batchSize, accuracy };
      if (accuracy >= until) return;
    }
    if (updates === steps) return;
    signal?.throwIfAborted();
    const examples = Array.from({ length: batchSize }, (_, i) => exampleAt(updates * batchSize + i));
    const batch = await solutions(task, examples);
    const { shape, targets: tokens, mask } = batch;
    const update = () =>
      batchLoss(lossSource(policy, batch), policy, batch, { shape, tokens, mask, advantages }, presets.reinforce, {
        device,
      });
    const { loss } = await updatePolicy(policy, optimizer, [update], { signal });
    yield { updates: updates + 1, examples: (updates + 1) * batchSize, loss };
  }
}

/** Examples with their solutions and the end token. */
async function solutions(task: TokenTask, examples: readonly Example[]) {
  const { tokenizer, promptLength, maxTokens } = task;
  const completions = await Promise.all(examples.map((example) => encodeSolution(task, example)));
  const prompts = await encodePrompts(task, examples);
  const pairs = prompts.map((prompt, i) => ({ prompt, completion: completions[i] }));
  return completionBatch(pairs, { padding: paddingOf(tokenizer), contextLength: promptLength + maxTokens - 1 });
}

async function encodeSolution(
  { task, tokenizer, maxTokens }: TokenTask,
  { prompt, solution }: Example,
): Promise<Int32Array> {
  if (typeof solution !== 'string')
    throw typeError(`${task.name}, solution of ${describe(prompt)}`, 'a string', solution);
  const ids = await encodeOne(tokenizer, solution, { addSpecialTokens: false });
  const completion = Int32Array.of(...ids, endOf(tokenizer));
  if (completion.length > maxTokens) {
    throw new RangeError(
      `${task.name}: expected solutions of at most ${maxTokens} tokens with the end token (sampling.maxTokens), ` +
        `got ${completion.length} in ${JSON.stringify(solution)}`,
    );
  }
  return completion;
}

function endOf({ endToken, endTokens }: Tokenizer): number {
  const end = endToken ?? endTokens[0];
  if (end === undefined) throw rangeError('warmStart', 'a policy whose tokenizer has an end token', 'one without');
  return end;
}
