// `groupgrad train`: a run from a configuration.

import { statSync } from 'node:fs';
import { basename, join, parse as parsePath, resolve } from 'node:path';
import { usualGrace } from '../base/interruption.js';
import { adapterLearningRate, builtins, modelConfig, modelConfigName } from '../config/builtins.js';
import type { TrainConfig } from '../config/define-config.js';
import { changeConfig, checkConfigName, readConfig, resolveConfig, trainerOptions } from '../config/load.js';
import { readRunConfig } from '../run/run-folder.js';
import type { GrpoTrainer, RunOptions, TrainerOptions } from '../train/api.js';
import { healthLimits } from '../train/health.js';
import { resolveParts, resolveSettings } from '../train/options.js';
import { exitCodes, listenForStop } from '../train/signals.js';
import { graderNames } from '../verify/named.js';
import { numberFlag, parse, UsageError } from './arguments.js';
import { blamingCall, blamingChanges, type Changes } from './blame.js';
import { backendFlag } from './evaluate.js';
import { checkCheckpoint } from './saved-run.js';

export const help = `groupgrad train <task|file> [flags]

  <task|file>        a task with a built-in configuration, or a configuration file (.ts, .js, .json); tasks:
                     ${Object.keys(builtins).join(', ')}
  --model DIR        instead: a language model, a folder in Hugging Face's layout; with
    --data FILE        its problems: .jsonl, .json, .csv or .parquet
    --prompt COLUMN    where prompts are; default: prompt
    --answer COLUMN    where answers are; default: answer
    --chat             prompts are messages of a user, which the model's chat template puts into its form
    --verify NAME      how completions are graded: ${graderNames.join(', ')}
    --lora RANK        train an adapter in place of all weights
    --hadw             weight advantages by history-aware difficulty (HA-DW)
    --max-tokens N     of a completion; default ${modelConfig.sampling!.maxTokens}
  --run DIR          the run folder; default: runs/<name>
  --steps N          steps after which the run ends, those before a resumption included
  --seed N           of the run
  --backend NAME     groupgrad, tensorflow, wasm or cpu; default: the fastest that is installed
  --resume HOW       auto (default): go on with the run that the folder holds; never; or a checkpoint's path
  --allow-drift      go on although the configuration or the data has changed
  --take-over        take the run folder from a process that is using it; that process then stops
  --grace SECONDS    how long the running step may take to finish after a signal, before it is discarded; default: ${usualGrace}
  --set PATH=VALUE   change a setting: --set loss.kl.beta=0.04; may be repeated
  --dry-run          check everything, make one small step, write nothing
  --json             one JSON object a step on standard output, instead of progress
`;

export async function train(args: readonly string[]): Promise<void> {
  const hasModel = args.some((arg) => /^--model(=|$)/.test(arg));
  const { flags, positionals } = parse(args, hasModel ? [] : ['a task or configuration file'], {
    ...modelFlags,
    run: { type: 'string' },
    steps: { type: 'string' },
    seed: { type: 'string' },
    backend: { type: 'string' },
    resume: { type: 'string' },
    'allow-drift': { type: 'boolean' },
    'take-over': { type: 'boolean' },
    grace: { type: 'string' },
    set: { type: 'string', multiple: true },
    'dry-run': { type: 'boolean' },
    json: { type: 'boolean' },
  });
  const [from = modelConfigName] = positionals;
  // Flags are short ways to set something; what they set is kept with the run.
  const set = [...modelChanges(flags, hasModel), ...(flags.set ?? [])];
  const seed = numberFlag('seed', flags.seed, { min: 0, integer: true });
  if (seed !== undefined) set.push(`seed=${seed}`);
  const backend = backendFlag(flags.backend);
  if (backend !== undefined) set.push(`backend=${backend}`);
  const steps = numberFlag('steps', flags.steps, { min: 0, integer: true });
  const grace = numberFlag('grace', flags.grace, { min: 0 });
  const { resume = 'auto', 'allow-drift': allowDrift = false, 'take-over': takeOver = false, json = false } = flags;
  if (resume !== 'auto' && resume !== 'never') checkCheckpoint('--resume', resume);
  await blamingCall(() => checkConfigName(from));

  const read = await readConfig(from);
  const change = (count: number) => {
    const changed = changeConfig(read, set.slice(0, count));
    checkSettings(changed.config);
    return changed;
  };
  const changes: Changes = { set, check: change };
  const { config, source } = await blamingChanges(changes, () => change(set.length));
  const max = steps ?? config.steps;
  const runDir = flags.run ?? join('runs', hasModel ? modelRunName(flags) : read.name);
  checkRunDir(runDir);
  if (flags['dry-run']) return dryRun(await blamingChanges(changes, () => trainerOptions(config)), runDir, json);

  const { createTrainer } = await import('../train/grpo.js');
  const trainer = await blamingChanges(changes, async () => {
    const options = await trainerOptions(config);
    return createTrainer({ ...options, runDir, resume, allowDrift, takeOver, notes: { source } }).catch(namingFlags);
  });
  try {
    await run(trainer, runDir, { max, grace }, json);
  } finally {
    trainer.dispose();
  }
}

const modelFlags = {
  model: { type: 'string' },
  data: { type: 'string' },
  prompt: { type: 'string' },
  answer: { type: 'string' },
  chat: { type: 'boolean' },
  verify: { type: 'string' },
  lora: { type: 'string' },
  hadw: { type: 'boolean' },
  'max-tokens': { type: 'string' },
} as const;

type ModelFlags = { [K in keyof typeof modelFlags]?: string | boolean };

/** What the flags of a model set, as `--set` would. UsageError for those that need others. */
function modelChanges(flags: ModelFlags, hasModel: boolean): string[] {
  const { model, data, prompt, answer, chat, verify, hadw } = flags;
  if (!hasModel) {
    const other = Object.keys(modelFlags).find((name) => flags[name as keyof ModelFlags] !== undefined);
    if (other !== undefined) throw new UsageError(`--${other}: expected --model beside it`);
    return [];
  }
  if (data === undefined) throw new UsageError('--model: expected --data beside it');
  const lora = numberFlag('lora', flags.lora as string | undefined, { min: 1, integer: true });
  const maxTokens = numberFlag('max-tokens', flags['max-tokens'] as string | undefined, { min: 1, integer: true });
  const values: [path: string, value: unknown][] = [
    ['policy.model', model],
    ['policy.lora', lora === undefined ? undefined : { rank: lora }],
    ['optimizer.learningRate', lora === undefined ? undefined : adapterLearningRate],
    ['train.data', data],
    ['train.prompt', prompt],
    ['train.answer', answer],
    ['train.chat', chat],
    ['train.verify', verify],
    ['hadw', hadw ? {} : undefined],
    ['sampling.maxTokens', maxTokens],
  ];
  return values.flatMap(([path, value]) => (value === undefined ? [] : [`${path}=${JSON.stringify(value)}`]));
}

/** `Qwen2.5-0.5B-train` of the model's folder and the file. */
function modelRunName({ model, data }: ModelFlags): string {
  return `${basename(resolve(String(model)))}-${parsePath(String(data)).name}`;
}

/** Everything about a configuration that can be told without its policy. */
function checkSettings(config: TrainConfig): void {
  const options = resolveConfig(config) as TrainerOptions;
  resolveSettings(options);
  resolveParts(options);
}

function checkRunDir(runDir: string): void {
  const found = statSync(runDir, { throwIfNoEntry: false });
  if (found && !found.isDirectory()) {
    throw new UsageError(`--run: expected the path of a folder, got ${JSON.stringify(runDir)}, which is none`);
  }
}

/** Options that an error of the trainer recommends, as flags. */
const flagsOfOptions: readonly [option: RegExp, flag: string][] = [
  [/resume: 'auto'/g, '--resume auto'],
  [/\ballowDrift\b/g, '--allow-drift'],
  [/ \(takeOver: true in code\)/g, ''],
  [/\banother folder\b/g, 'another folder (--run)'],
];

function namingFlags(error: Error): never {
  for (const [option, flag] of flagsOfOptions) error.message = error.message.replace(option, flag);
  throw error;
}

async function run(
  trainer: GrpoTrainer,
  runDir: string,
  { max, grace }: Pick<RunOptions, 'max' | 'grace'>,
  json: boolean,
): Promise<void> {
  const say = (text: string) => void (json ? process.stderr : process.stdout).write(`${text}\n`);
  const line = (value: unknown) => void process.stdout.write(`${JSON.stringify(value)}\n`);
  if (trainer.step > 0) say(`${runDir}: going on after step ${trainer.step}`);
  const broken = stopOnStrayErrors();
  // Where there is progress, notices are told in it.
  let told = 0;
  const tellNotices = () => {
    for (; json && told < trainer.notices.length; told++) say(trainer.notices[told]);
  };
  try {
    tellNotices();
    const result = await trainer.run({
      max,
      grace,
      signal: broken.signal,
      output: json ? null : process.stdout,
      onStep: ({ index, metrics, timing, fault, warnings }) => {
        if (json) {
          const words = { ...(fault !== undefined && { fault }), ...(warnings.length > 0 && { warnings }) };
          line({ step: index, ...metrics, ...timing, ...words });
        }
        tellNotices();
      },
    });
    tellNotices();
    if (broken.error) throw broken.error;
    const { steps, learned, skipped, warnings } = result;
    const isDone = result.ended === 'max';
    const evaluations = Object.entries(isDone ? await lastEvaluation(trainer, say) : {});
    const accuracies = Object.fromEntries(evaluations.map(([name, { accuracy }]) => [name, accuracy]));
    if (json) {
      const words = warnings.length > 0 && { warnings };
      line({ ended: result.ended, steps, run: runDir, evaluation: accuracies, ...words });
    } else {
      for (const [name, { accuracy, count }] of evaluations) {
        say(`${name}: ${(100 * accuracy).toFixed(1)} % of ${count} right`);
      }
      say(`${isDone ? 'done' : `ended by ${result.ended}`} after step ${steps}; see ${runDir}`);
    }
    for (const warning of warnings) process.stderr.write(`warning: ${warning}\n`);
    if (isDone && steps > 0 && learned === 0) {
      const text = `${runDir}: nothing was learnt: none of its ${steps} steps changed the weights`;
      // So few steps without a reward can be chance.
      if (skipped === steps || steps >= healthLimits.window) throw new Error(text);
      process.stderr.write(`warning: ${text}\n`);
    }
  } finally {
    broken.release();
  }
}

/** Of a run that is complete and saved: a signal leaves it out. */
async function lastEvaluation(
  trainer: GrpoTrainer,
  say: (text: string) => void,
): Promise<Awaited<ReturnType<GrpoTrainer['evaluate']>>> {
  const stop = listenForStop({ onFirst: (name) => say(`${name}: without a last evaluation`), onSecond: () => {} });
  try {
    return await trainer.evaluate({ signal: stop.signal });
  } catch (error) {
    if (error !== stop.signal.reason) throw error;
    process.exitCode = exitCodes[stop.received!];
    return {};
  } finally {
    stop.release();
  }
}

/** An error that nobody caught, in a reward function that was not waited for say, ends the run after its step, saved. */
function stopOnStrayErrors() {
  const controller = new AbortController();
  const stray = {
    signal: controller.signal,
    error: undefined as Error | undefined,
    release: () => {
      process.removeListener('uncaughtException', stop);
      process.removeListener('unhandledRejection', stop);
    },
  };
  const stop = (reason: unknown) => {
    stray.error ??= reason instanceof Error ? reason : new Error(String(reason));
    controller.abort(stray.error);
  };
  process.on('uncaughtException', stop);
  process.on('unhandledRejection', stop);
  return stray;
}

/** Everything that can be wrong comes to light in a warm start of one update and one step of two prompts. */
async function dryRun(options: TrainerOptions, runDir: string, json: boolean): Promise<void> {
  const { createTrainer } = await import('../train/grpo.js');
  const settings = resolveSettings(options);
  const { warmStart } = options;
  const trainer = await createTrainer({
    ...options,
    // Its solutions may be more than the policy can write.
    warmStart: warmStart && { ...warmStart, steps: 1, until: undefined },
    evaluation: { size: 2 },
    promptsPerStep: 2,
    dynamicSampling: undefined,
    guard: { action: 'halt' },
  });
  const began = performance.now();
  await trainer.run({ max: 1, output: null });
  const seconds = (performance.now() - began) / 1e3;
  trainer.dispose();
  const holdsRun = readRunConfig(runDir) !== undefined;
  if (json) {
    process.stdout.write(`${JSON.stringify({ run: runDir, holdsRun, settings })}\n`);
    return;
  }
  process.stdout.write(
    `${JSON.stringify(settings, null, 1)}\n` +
      `one step of two prompts took ${seconds.toFixed(1)} s; nothing was written\n` +
      `${runDir}: ${holdsRun ? 'holds a run, which would be gone on with' : 'would begin a run'}\n`,
  );
}
