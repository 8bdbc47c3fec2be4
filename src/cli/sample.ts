// `groupgrad sample`: completes a prompt with a saved policy.

import { rangeError } from '../base/check.js';
import { resolveConfig } from '../config/load.js';
import { usualMaxTokens } from '../rollout/token-task.js';
import type { Example, Task } from '../tasks/task.js';
import { completionText, encodeOne, type Tokenizer } from '../text/tokenizer.js';
import { resolveParts } from '../train/options.js';
import { numberFlag, parse } from './arguments.js';
import { backendFlag } from './evaluate.js';
import { asUsageErrors } from './usage-errors.js';

export const help = `groupgrad sample <run> <prompt> [flags]

  <run>              a run folder
  <prompt>           for example "12+34="; if the run's task can parse it, each completion is marked right or wrong
  --count N          completions; default 1
  --temperature T    default: 0 (greedy) for one completion, else the run's
  --max-tokens N     default: the run's
  --seed N           default 0
  --checkpoint PATH  a checkpoint other than the newest
  --backend NAME     groupgrad, tensorflow, wasm or cpu
  --json             JSON on standard output
`;

async function encodePrompt(tokenizer: Tokenizer, prompt: string): Promise<Int32Array> {
  const tokens = await encodeOne(tokenizer, prompt);
  if (tokens.length === 0) throw rangeError('prompt', 'a non-empty string', JSON.stringify(prompt));
  return tokens;
}

export async function sample(args: readonly string[]): Promise<void> {
  const { flags, positionals } = parse(args, ['a run folder', 'a prompt'], {
    count: { type: 'string' },
    temperature: { type: 'string' },
    'max-tokens': { type: 'string' },
    seed: { type: 'string' },
    checkpoint: { type: 'string' },
    backend: { type: 'string' },
    json: { type: 'boolean' },
  });
  const [runDir, prompt] = positionals;
  const count = numberFlag('count', flags.count, { min: 1, integer: true }) ?? 1;
  const given = numberFlag('temperature', flags.temperature, { min: 0 });
  const limit = numberFlag('max-tokens', flags['max-tokens'], { min: 1, integer: true });
  const seed = numberFlag('seed', flags.seed, { min: 0, integer: true }) ?? 0;
  const backend = backendFlag(flags.backend);
  const { loadRun } = await import('./saved-run.js');
  const { policySampler } = await import('../rollout/sample.js');
  const { policy, config, settings } = await loadRun(runDir, { checkpoint: flags.checkpoint, backend });
  const tokens = await asUsageErrors(() => encodePrompt(policy.tokenizer, prompt));
  const task = config && resolveParts(resolveConfig(config)).train;
  const example = task?.parse?.(prompt);
  const solution = task?.maxSolutionLength && task.maxSolutionLength + 1;
  const completions = await policySampler(policy).complete(
    Array.from({ length: count }, (_, i) => ({ prompt: tokens, promptIndex: 0, sample: i })),
    {
      maxTokens: limit ?? settings.sampling.maxTokens ?? solution ?? usualMaxTokens,
      temperature: given ?? (count === 1 ? 0 : settings.sampling.temperature),
      seed,
      step: 0,
    },
  );
  for (const { tokens: own, logProbs, truncated } of completions) {
    const text = completionText(policy.tokenizer, own);
    const logProb = logProbs.reduce((sum, value) => sum + value, 0);
    const answer = (truncated ? undefined : task?.readAnswer?.(text)) ?? null;
    const score = task && example ? (truncated ? 0 : await task.score(text, example)) : null;
    if (flags.json) console.log(JSON.stringify({ prompt, completion: text, truncated, logProb, answer, score }));
    else {
      const remarks = [
        ...(truncated ? [`cut off after ${own.length} tokens`] : []),
        ...(answer === null ? [] : [answer]),
        ...(score === null ? [] : [verdict(score, task!, example!)]),
      ];
      console.log(`${text}${truncated ? '…' : ''}${remarks.length > 0 ? `  (${remarks.join(', ')})` : ''}`);
    }
  }
  if (!flags.json && task?.notation !== undefined) console.log(task.notation);
}

/** `right`, `wrong; 46 is right`, or a score in between. */
function verdict(score: number, task: Task, { answer }: Example): string {
  if (score === 1) return 'right';
  return `${score === 0 ? 'wrong' : `score ${score}`}; ${task.readAnswer?.(answer) ?? answer} is right`;
}
