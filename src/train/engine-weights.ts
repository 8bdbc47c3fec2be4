// A policy's weights for rollout engines: written into folders, and used to compute log-probs.

import { createHash, randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import type { Policy } from '../model/policy.js';
import type { RolloutWeights } from '../rollout/engine.js';
import { tokenLogProbsOf } from '../rollout/generate.js';
import { policySampler } from '../rollout/sample.js';
import { encodePrompts, type TokenTask } from '../rollout/token-task.js';
import type { PretrainedPolicy } from '../weights/pretrained-options.js';

/** Maximum number of prompts that probe an engine, and of tokens sampled after each. */
const probes = { count: 4, tokens: 32 };

/** The same for every process that works on a run; random without a folder to resume the run from. */
export function runName(runDir: string | undefined): string {
  if (runDir === undefined) return randomBytes(4).toString('hex');
  return createHash('sha256').update(resolve(runDir)).digest('hex').slice(0, 8);
}

/** The beginnings of some prompts of the task with the policy's continuations: sequences like those in training. */
export async function probesOf(
  policy: Policy,
  task: TokenTask,
  signal: AbortSignal | undefined,
): Promise<Int32Array[]> {
  const count = Math.min(probes.count, task.task.size ?? probes.count);
  const prompts = await encodePrompts(
    task,
    Array.from({ length: count }, (_, i) => task.task.example(i)),
  );
  const requests = prompts.map((prompt, promptIndex) => ({ prompt, promptIndex, sample: 0 }));
  const maxTokens = Math.min(probes.tokens, task.maxTokens);
  const contextLength = task.promptLength + task.maxTokens - 1;
  const settings = { maxTokens, temperature: 1, seed: 0, step: 0, contextLength, signal };
  const completions = await policySampler(policy).complete(requests, settings);
  return prompts.map((prompt, i) => Int32Array.from([...prompt, ...completions[i].tokens]));
}

/** The weights as they are when they are asked for. `within` may give the policy others while something is computed. */
export function weightsOf(
  policy: Policy,
  given: Pick<RolloutWeights, 'run' | 'temperature' | 'probes'>,
  within: <T>(compute: () => T) => T = (compute) => compute(),
): RolloutWeights {
  const { tokenizer, logitsSize, checkpointFiles, reference } = policy;
  const { save } = policy as Partial<PretrainedPolicy>;
  const withoutAdapter = checkpointFiles && reference;
  return {
    ...given,
    tokenizer,
    logitsSize,
    logProbs: (sequences, temperature) => tokenLogProbsOf(policy, sequences, temperature, undefined, within),
    // It writes before it returns, within its own turn.
    ...(save && checkpointFiles && { saveAdapter: (folder: string) => within(() => save(folder)) }),
    ...(save && { saveModel: (folder: string) => within(() => save(folder, { merge: true })) }),
    ...(withoutAdapter && {
      baseLogProbs: (sequences: readonly Int32Array[]) => {
        const logits: Policy['logits'] = (...args) => reference(() => policy.logits(...args));
        const { hidden } = policy;
        const base = hidden && ((...args: Parameters<typeof hidden>) => reference(() => hidden(...args)));
        const withoutIt = { ...policy, logits, ...(base && { hidden: base }) };
        return tokenLogProbsOf(withoutIt, sequences, 1, undefined, within);
      },
    }),
  };
}
