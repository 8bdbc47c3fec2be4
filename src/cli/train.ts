// `groupgrad train`: a run from a configuration.

import { statSync } from 'node:fs';
import { join } from 'node:path';
import { usualGrace } from '../base/interruption.js';
import { builtins } from '../config/builtins.js';
import type { TrainConfig } from '../config/define-config.js';
import { changeConfig, checkConfigName, readConfig, resolveConfig, setAll, trainerOptions } from '../config/load.js';
import { heldOut, learningRates, pretrained } from '../config/pretrained.js';
import { readRunConfig } from '../run/run-folder.js';
import type { GrpoTrainer, RunOptions, TrainerOptions } from '../train/api.js';
import { healthLimits } from '../train/health.js';
import { resolveParts, resolveSettings } from '../train/options.js';
import { accuraciesOf, evaluationLine } from '../train/progress.js';
import { exitCodes, listenForStop } from '../train/signals.js';
import { numberFlag, parse, UsageError } from './arguments.js';
import { checkCheckpoint } from './checkpoint-flags.js';
import { dataHelp } from './data-flags.js';
import { backendFlag, precisionFlag } from './evaluate.js';
import { namingOwnFlags, pretrainedFlags, pretrainedSettings } from './pretrained-flags.js';
import { helpWidth, wrap } from './terminal.js';
import { asUsageErrors, type Changes, changesAsUsageErrors } from './usage-errors.js';

export const help = `groupgrad train <task|file> [flags]
groupgrad train --model DIR --data FILE --prompt COLUMN --answer COLUMN --verify GRADER [flags]

  <task|file>        a task with a built-in configuration, or a configuration file (.ts, .js, .json); tasks:
                     ${Object.keys(builtins).join(', ')}
  --run DIR          the run folder; default: runs/<name>
  --steps N          total steps of the run, including those before it was resumed
  --seed N           random seed of the run
  --backend NAME     groupgrad, tensorflow, wasm or cpu; default: the fastest that is installed
  --precision TYPE   of matrix products: float32 (default), or bfloat16 on the backend groupgrad
  --resume HOW       auto (default): resume the run in the folder; never; or the path of a checkpoint
  --allow-drift      resume even if the configuration or the data has changed
  --take-over        take the run folder from a process that is using it; that process then stops
  --grace SECONDS    how long the running step may take to finish after a signal, before it is discarded; default: ${usualGrace}
  --set PATH=VALUE   change a setting: --set loss.kl.beta=0.04; may be repeated
  --dry-run          check everything, make one small step, write nothing
  --json             one JSON object per step on standard output, instead of progress

  A pretrained model on your own problems, without a configuration file:
  --model DIR        a model folder in Hugging Face's layout
  --data FILE        problems: JSON lines, JSON, CSV or Parquet; may be repeated
  --eval-data FILE   problems to evaluate on, with the same columns; may be repeated. Default: a held-out part of --data
  --lora RANK        train only an adapter of this rank; default: every weight
  --adapter DIR      a PEFT folder to continue from
  --dtype TYPE       round weights to float32, bfloat16 or float16; default: each tensor's own type
  --hadw             weight advantages by difficulty relative to the run's history (HA-DW)
  --max-tokens N     longest completion, in tokens; default: ${pretrained.sampling!.maxTokens}
${dataHelp.replace(/ {2}--part .*\n/, '').replace('hold out this share of the problems, by their text', `hold out this share of the problems, by their text; default: ${heldOut.share}`)}
${otherSettings()}
`;

/** The settings of a run of a pretrained model that no flag changes. */
function otherSettings(): string {
  const { sampling: _, ...others } = pretrained;
  const list = (fields: object, at = ''): string[] =>
    Object.entries(fields).flatMap(([name, value]) =>
      typeof value === 'object' ? list(value, `${at}${name}.`) : [`${at}${name}=${value}`],
    );
  const text = `Its other settings, which --set changes: ${list(others).join(', ')}; with an adapter, optimizer.learningRate=${learningRates.lora}.`;
  return `  ${wrap(text, { width: helpWidth, indent: 2 })}`;
}

export async function train(args: readonly string[]): Promise<void> {
  const hasModel = args.some((arg) => /^--model(=|$)/.test(arg));
  if (!hasModel && args.some((arg) => /^--data(=|$)/.test(arg))) {
    throw new UsageError('--data: requires --model');
  }
  const { flags, positionals } = parse(args, hasModel ? [] : ['a task or configuration file'], {
    run: { type: 'string' },
    steps: { type: 'string' },
    seed: { type: 'string' },
    backend: { type: 'string' },
    precision: { type: 'string' },
    resume: { type: 'string' },
    'allow-drift': { type: 'boolean' },
    'take-over': { type: 'boolean' },
    grace: { type: 'string' },
    set: { type: 'string', multiple: true },
    'dry-run': { type: 'boolean' },
    json: { type: 'boolean' },
    ...pretrainedFlags,
  });
  const own = await asUsageErrors(() => pretrainedSettings(flags));
  const from = own?.from ?? positionals[0];
  // Flags are shorthands for settings; the settings are stored with the run.
  const set = [...(flags.set ?? [])];
  const seed = numberFlag('seed', flags.seed, { min: 0, integer: true });
  if (seed !== undefined) set.push(`seed=${seed}`);
  const backend = backendFlag(flags.backend);
  if (backend !== undefined) set.push(`backend=${backend}`);
  const precision = precisionFlag(flags.precision);
  if (precision !== undefined) set.push(`policy.precision=${precision}`);
  const steps = numberFlag('steps', flags.steps, { min: 0, integer: true });
  const grace = numberFlag('grace', flags.grace, { min: 0 });
  const { resume = 'auto', 'allow-drift': allowDrift = false, 'take-over': takeOver = false, json = false } = flags;
  if (resume !== 'auto' && resume !== 'never') checkCheckpoint('--resume', resume);
  await asUsageErrors(() => checkConfigName(from));

  const read = { ...(await readConfig(from)), ...(own && { name: own.name }) };
  if (own) {
    // The flags' own settings may be invalid, even before --set changes any.
    read.original = setAll(read.original, own.set);
    await asUsageErrors(() => {
      try {
        checkSettings(changeConfig(read, []).config);
      } catch (error) {
        namingOwnFlags(error as Error);
      }
    });
  }
  const change = (count: number) => {
    const changed = changeConfig(read, set.slice(0, count));
    checkSettings(changed.config);
    return changed;
  };
  const changes: Changes = { set, check: change };
  const { config, source: changed } = await changesAsUsageErrors(changes, () => change(set.length));
  const source = { ...changed, set: [...(own?.set ?? []), ...changed.set] };
  const max = steps ?? config.steps;
  const runDir = flags.run ?? join('runs', read.name);
  checkRunDir(runDir);
  if (flags['dry-run']) return dryRun(await changesAsUsageErrors(changes, () => trainerOptions(config)), runDir, json);

  const { createTrainer } = await import('../train/grpo.js');
  const trainer = await changesAsUsageErrors(changes, async () => {
    const options = await trainerOptions(config);
    return createTrainer({ ...options, runDir, resume, allowDrift, takeOver, notes: { source } }).catch(namingFlags);
  });
  try {
    // Of several processes only the first prints.
    if ((config.communicator?.rank ?? 0) > 0) await trainer.run({ max, grace, output: null });
    else await run(trainer, runDir, { max, grace }, json);
  } finally {
    trainer.dispose();
  }
}

/** Checks everything about a configuration that does not need its policy. */
function checkSettings(config: TrainConfig): void {
  const options = resolveConfig(config) as TrainerOptions;
  resolveSettings(options);
  resolveParts(options);
}

function checkRunDir(runDir: string): void {
  const found = statSync(runDir, { throwIfNoEntry: false });
  if (found && !found.isDirectory()) {
    throw new UsageError(`--run: expected the path of a folder, got ${JSON.stringify(runDir)}, which is not one`);
  }
}

/** Options that the trainer's errors suggest, and the flags that stand for them. */
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
  if (trainer.step > 0) say(`${runDir}: continuing after step ${trainer.step}`);
  const broken = stopOnStrayErrors();
  // Without --json, the progress shows notices itself.
  let noticesShown = 0;
  const showNotices = () => {
    for (; json && noticesShown < trainer.notices.length; noticesShown++) say(trainer.notices[noticesShown]);
  };
  try {
    showNotices();
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
        showNotices();
      },
    });
    showNotices();
    if (broken.error) throw broken.error;
    const { steps, learned, skipped, warnings } = result;
    const isDone = result.ended === 'max';
    const accuracies: Record<string, number> = {};
    // Of a run that was complete before, or whose last step was not evaluated, there are none yet.
    const known = accuraciesOf(result.metrics);
    if (isDone) for (const { name, accuracy } of known) accuracies[name] = accuracy;
    if (isDone && known.length === 0) {
      for (const [name, { accuracy, count }] of Object.entries(await lastEvaluation(trainer, say))) {
        accuracies[name] = accuracy;
        if (!json) say(evaluationLine(name, accuracy, count));
      }
    }
    if (json) {
      const words = warnings.length > 0 && { warnings };
      line({ ended: result.ended, steps, run: runDir, evaluation: accuracies, ...words });
    } else {
      say(`${isDone ? 'done' : `ended by ${result.ended}`} after step ${steps}; see ${runDir}`);
    }
    for (const warning of warnings) process.stderr.write(`warning: ${warning}\n`);
    if (isDone && steps > 0 && learned === 0) {
      const text = `${runDir}: nothing was learnt: none of its ${steps} steps changed the weights`;
      // With so few steps, a lack of reward may be chance.
      if (skipped === steps || steps >= healthLimits.window) throw new Error(text);
      process.stderr.write(`warning: ${text}\n`);
    }
  } finally {
    broken.release();
  }
}

/** Evaluates a run that is complete and saved; a signal cancels the evaluation. */
async function lastEvaluation(
  trainer: GrpoTrainer,
  say: (text: string) => void,
): Promise<Awaited<ReturnType<GrpoTrainer['evaluate']>>> {
  const stop = listenForStop({ onFirst: (name) => say(`${name}: skipping the last evaluation`), onSecond: () => {} });
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

/** Ends the run after the running step, which is saved, if an error was not caught, for example in a reward that had timed out. */
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

/** A warm start of one update and one step of two prompts, which reveals most mistakes. */
async function dryRun(options: TrainerOptions, runDir: string, json: boolean): Promise<void> {
  const { createTrainer } = await import('../train/grpo.js');
  const settings = resolveSettings(options);
  const { warmStart } = options;
  const trainer = await createTrainer({
    ...options,
    // Kept, because its solutions may be too long for the policy.
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
      `${runDir}: ${holdsRun ? 'contains a run, which would be continued' : 'a new run would begin'}\n`,
  );
}
