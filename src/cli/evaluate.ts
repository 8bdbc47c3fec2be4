// `groupgrad evaluate`: how often a saved policy is right, by greedy generation.

import { type Backend, backends } from '../backend/backend.js';
import { resolveConfig, resolveTask } from '../config/load.js';
import type { Evaluation } from '../rollout/api.js';
import { evaluate as evaluatePolicy } from '../rollout/evaluate.js';
import { encodePrompts, tokenTask } from '../rollout/token-task.js';
import type { Task } from '../tasks/task.js';
import { evaluationExamples, resolveParts, scoredBy } from '../train/options.js';
import { numberFlag, parse, UsageError } from './arguments.js';
import { blamingCall } from './blame.js';
import { loadRun } from './saved-run.js';

export const help = `groupgrad evaluate <run> [flags]

  <run>              a run folder
  --checkpoint PATH  another checkpoint than the newest
  --task TASK        instead of the run's own evaluation tasks: a name, or {"task":"addition","digits":[3,3]}
  --size N           examples of each task at most; default: the run's
  --seed N           of --task; default 0
  --backend NAME     groupgrad, tensorflow, wasm or cpu
  --json             JSON on standard output
`;

export async function evaluate(args: readonly string[]): Promise<void> {
  const { flags, positionals } = parse(args, ['a run folder'], {
    checkpoint: { type: 'string' },
    task: { type: 'string' },
    size: { type: 'string' },
    seed: { type: 'string' },
    backend: { type: 'string' },
    json: { type: 'boolean' },
  });
  const size = numberFlag('size', flags.size, { min: 1, integer: true });
  const seed = numberFlag('seed', flags.seed, { min: 0, integer: true });
  const backend = backendFlag(flags.backend);
  if (seed !== undefined && flags.task === undefined) throw new UsageError('--seed: expected --task beside it');
  const given = flags.task === undefined ? undefined : taskFlag(flags.task, seed ?? 0);
  const { policy, config, settings, checkpoint, step } = await loadRun(positionals[0], {
    checkpoint: flags.checkpoint,
    backend,
  });
  const tasks: Readonly<Record<string, Task>> = given
    ? { [given.name]: given }
    : ((config && resolveParts(resolveConfig(config)).evaluate) ?? {});
  if (Object.keys(tasks).length === 0) {
    throw new UsageError(`${positionals[0]}: its configuration names no task to evaluate on; say which with --task`);
  }
  const results: Record<string, Evaluation> = {};
  for (const [name, task] of Object.entries(tasks)) {
    const own = given ? { ...settings.sampling, promptLength: null, maxTokens: null } : settings.sampling;
    const examples = evaluationExamples(task, size ?? settings.evaluation.size);
    const asTokens = tokenTask(task, policy, own);
    if (given) await blamingCall(() => encodePrompts(asTokens, examples));
    results[name] = await evaluatePolicy(policy, asTokens, examples);
  }
  if (flags.json) {
    process.stdout.write(`${JSON.stringify({ checkpoint, step, evaluation: results })}\n`);
    return;
  }
  console.log(`${checkpoint}, step ${step}`);
  for (const [name, { accuracy, count, byDifficulty }] of Object.entries(results)) {
    console.log(`${name}: ${(100 * accuracy).toFixed(1)} % of ${count} right`);
    for (const part of byDifficulty) {
      console.log(`  difficulty ${part.difficulty}: ${(100 * part.accuracy).toFixed(1)} % of ${part.count}`);
    }
  }
}

function taskFlag(text: string, seed: number): Task {
  let description: unknown = { task: text };
  if (text.trimStart().startsWith('{')) {
    try {
      description = JSON.parse(text);
    } catch (error) {
      throw new UsageError(`--task: ${(error as Error).message}`);
    }
  }
  if (typeof description !== 'object' || description === null || !('task' in description)) {
    throw new UsageError(`--task: expected a name or {"task": name, …}, got ${JSON.stringify(text)}`);
  }
  try {
    return scoredBy('task', resolveTask('task', description, seed), []);
  } catch (error) {
    // `task.task` is the task's name, `task.digits` one of its options.
    const message = (error as Error).message.replace(/^task\.(task: )?/, '');
    throw new UsageError(`--task: ${message}`, { cause: error });
  }
}

export function backendFlag(text: string | undefined): Backend | undefined {
  if (text === undefined || backends.includes(text as Backend)) return text as Backend | undefined;
  throw new UsageError(`--backend: expected one of ${backends.join(', ')}, got ${JSON.stringify(text)}`);
}
