// Supervised warm start: cross-entropy on a task's own solutions, so that reinforcement has something to reinforce.

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
  /** The example at each place of the run; solutions are taken from place 0 on. */
  exampleAt: (place: number) => E;
  settings: WarmStartSettings;
  device: DeviceChoice;
  /** Continues after the updates that this optimizer has made. */
  optimizer: AdamW;
  /** Interrupts it between two updates or during a look at the accuracy: its reason is thrown. */
  signal?: AbortSignal;
}

/** An update that was made, or a look at the accuracy after it. */
export interface WarmStartStep {
  /** Updates made, from 1. */
  updates: number;
  /** Examples taken so far. */
  examples: number;
  /** Of an update: the mean cross-entropy of a solution's tokens, in nats. */
  loss?: number;
  /** Of a look: the share of problems right. */
  accuracy?: number;
}

/**
 * Yields after every update, and after every look at the accuracy, until there were `steps` updates or the accuracy has
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
  // The policy gradient with every advantage 1 is the gradient of the cross-entropy: one loss serves both phases.
  const advantages = new Float32Array(batchSize).fill(1);
  for (;;) {
    const { updates } = optimizer;
    // Repeated after a resumption, which changes nothing.
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
    const { loss } = await updatePolicy(policy, optimizer, [update], signal);
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
      `${task.name}: expected solutions of at most ${maxTokens} tokens with their end (sampling.maxTokens), ` +
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
