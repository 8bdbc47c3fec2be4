// `groupgrad evaluate`: how often a model or a trained policy is right, and a folder with every completion.

import { basename, join, resolve } from 'node:path';
import { type Backend, backends } from '../backend/names.js';
import { type Precision, precisions } from '../backend/precision.js';
import { packageVersion } from '../base/version.js';
import { resolveConfig, resolveTask } from '../config/load.js';
import { readColumn } from '../data/columns.js';
import { hashFile } from '../data/storage.js';
import { evaluate as evaluatePolicy } from '../evaluation/evaluate.js';
import { isEvaluation, readEvaluation, reportPath } from '../evaluation/folder.js';
import { notesOf, type ShownComparison } from '../evaluation/page.js';
import { type EvaluationSummary, summarise } from '../evaluation/records.js';
import { compareFolders, runEvaluation, usualBatch } from '../evaluation/run.js';
import { checkEvaluationSampling, type EvaluationSampling, greedy, usualTemperature } from '../evaluation/sampling.js';
import { interval, layOut, percent, pText } from '../evaluation/text.js';
import type { Policy } from '../model/policy.js';
import type { Evaluation } from '../rollout/api.js';
import { encodePrompts, tokenTask, usualMaxTokens } from '../rollout/token-task.js';
import { manifestName } from '../run/checkpoint.js';
import { identifyTask } from '../run/drift.js';
import { readRunConfig } from '../run/run-folder.js';
import { benchmarks } from '../tasks/benchmarks.js';
import type { Example, Task } from '../tasks/task.js';
import { evaluationExamples, resolveParts, type Settings, scoredBy } from '../train/options.js';
import { createProgress, evaluationLine } from '../train/progress.js';
import { exitCodes, listenForStop } from '../train/signals.js';
import { choiceFlag, numberFlag, parse, UsageError } from './arguments.js';
import { dataDescription, dataFlagNames, dataFlags, dataHelp } from './data-flags.js';
import { asUsageErrors } from './usage-errors.js';

export const help = `groupgrad evaluate <model or run> [flags]

  <model or run>     a model folder in Hugging Face's layout, a run folder, or the folder of an earlier evaluation to
                     show
  --data FILE        problems: JSON lines, JSON, CSV or Parquet; may be repeated; default: the run's evaluation tasks
  --task TASK        instead: the name of a built-in task, or {"task":"addition","digits":[3,3]}
  --checkpoint PATH  a checkpoint other than the newest
  --samples N        completions per problem; default: the benchmark's or the run's, or 1
  --temperature T    default: ${usualTemperature(1)} (greedy) for one completion, else ${usualTemperature(2)}
  --top-p P          nucleus sampling: the probability mass that tokens are drawn from; default: 1
  --max-tokens N     longest completion, in tokens; default: the run's, or ${usualMaxTokens}
  --size N           at most this many problems per task; default: all of --data, else the run's
  --seed N           random seed; default 0
  --by COLUMN        break results down by a column of --data; may be repeated
  --out DIR          folder for the evaluation of --data or --task; the same command resumes an interrupted one.
                     Default with --data: runs/evaluate-<model>-<data>
  --against DIR      the folder of another evaluation of the same problems, to compare with
  --batch N          completions that are sampled and written together; default ${usualBatch}
  --take-over        take the folder from a process that is using it; that process then stops
  --backend NAME     groupgrad, tensorflow, wasm or cpu
  --precision TYPE   of a model folder's matrix products: float32 (default), or bfloat16 on the backend groupgrad
  --json             JSON on standard output
${dataHelp}`;

export async function evaluate(args: readonly string[]): Promise<void> {
  const { flags, positionals } = parse(args, ['a model folder or a run folder'], {
    data: { type: 'string', multiple: true },
    task: { type: 'string' },
    checkpoint: { type: 'string' },
    samples: { type: 'string' },
    temperature: { type: 'string' },
    'top-p': { type: 'string' },
    'max-tokens': { type: 'string' },
    size: { type: 'string' },
    seed: { type: 'string' },
    by: { type: 'string', multiple: true },
    out: { type: 'string' },
    against: { type: 'string' },
    batch: { type: 'string' },
    'take-over': { type: 'boolean' },
    backend: { type: 'string' },
    precision: { type: 'string' },
    json: { type: 'boolean' },
    ...dataFlags,
  });
  const [target] = positionals;
  const json = flags.json ?? false;
  if (flags.against !== undefined && !isEvaluation(flags.against)) {
    throw new UsageError(`--against: expected the folder of an evaluation, got ${JSON.stringify(flags.against)}`);
  }
  if (isEvaluation(target)) {
    const other = Object.keys(flags).find((name) => !['against', 'json'].includes(name));
    if (other) throw new UsageError(`--${other}: requires a model or a run, got the folder of an evaluation`);
    const { title, problems } = readEvaluation(target);
    if (problems.length === 0) throw new Error(`${target}: no problems have been completed`);
    const shown = flags.against === undefined ? undefined : await compareFolders(flags.against, target);
    return show({ title, folder: target, summary: summarise(problems), shown }, json);
  }

  const own = dataFlagNames.find((name) => flags[name] !== undefined) ?? (flags.by && 'by');
  if (own !== undefined && flags.data === undefined) throw new UsageError(`--${own}: requires --data`);
  if (flags.data !== undefined && flags.verify === undefined && flags.benchmark === undefined) {
    throw new UsageError('--data: requires --verify or --benchmark');
  }
  if (flags.data !== undefined && flags.task !== undefined) {
    throw new UsageError('--task: expected one of --data and --task, got both');
  }
  for (const [name, value] of [
    ['out', flags.out],
    ['against', flags.against],
  ]) {
    if (value !== undefined && flags.data === undefined && flags.task === undefined) {
      throw new UsageError(`--${name}: requires --data or --task`);
    }
  }
  const count = (name: 'samples' | 'max-tokens' | 'size' | 'batch') =>
    numberFlag(name, flags[name], { min: 1, integer: true });
  const given = {
    samples: count('samples'),
    temperature: numberFlag('temperature', flags.temperature, { min: 0 }),
    topP: numberFlag('top-p', flags['top-p'], { above: 0, max: 1 }),
    seed: numberFlag('seed', flags.seed, { min: 0, integer: true }),
  };
  const [size, batch, maxTokens] = [count('size'), count('batch') ?? usualBatch, count('max-tokens')];
  const benchmark =
    flags.benchmark === undefined
      ? undefined
      : benchmarks[choiceFlag('benchmark', flags.benchmark, Object.keys(benchmarks) as (keyof typeof benchmarks)[])];
  const builtIn = flags.task === undefined ? undefined : taskFlag(flags.task, given.seed ?? 0);

  const model = await loadModel(target, {
    checkpoint: flags.checkpoint,
    backend: backendFlag(flags.backend),
    precision: precisionFlag(flags.precision),
  });
  const { policy, settings } = model;
  const samples =
    given.samples ?? benchmark?.samples ?? (builtIn || flags.data ? 1 : settings?.evaluation.samples) ?? 1;
  const usual = builtIn || flags.data || given.samples !== undefined ? undefined : settings?.evaluation;
  const sampling = checkSamplingFlags({
    samples,
    temperature: given.temperature ?? usual?.temperature ?? usualTemperature(samples),
    topP: given.topP ?? usual?.topP ?? greedy.topP,
    seed: given.seed ?? greedy.seed,
  });
  const sizes = {
    promptLength: null,
    maxTokens: maxTokens ?? settings?.sampling.maxTokens ?? null,
    // A run's completions end as they did in training.
    stopTokens: settings?.sampling.stopTokens,
    stopTexts: settings?.sampling.stopTexts,
  };

  if (flags.data === undefined && (flags.out ?? flags.against) === undefined) {
    const tasks = builtIn ? { [builtIn.name]: builtIn } : model.tasks;
    if (Object.keys(tasks).length === 0) {
      throw new UsageError(`${target}: it has no evaluation tasks; use --data or --task`);
    }
    const results: Record<string, Evaluation> = {};
    for (const [name, task] of Object.entries(tasks)) {
      const examples = evaluationExamples(task, size ?? settings?.evaluation.size ?? null);
      const own = builtIn
        ? { promptLength: null, maxTokens: maxTokens ?? null }
        : { ...settings!.sampling, ...(maxTokens && { maxTokens }) };
      const asTokens = tokenTask(task, policy, own);
      if (builtIn) await asUsageErrors(() => encodePrompts(asTokens, examples));
      results[name] = await evaluatePolicy(policy, asTokens, examples, sampling);
    }
    return showResults(model, results, json);
  }

  const hasChat = Boolean(policy.tokenizer.chat);
  const task =
    builtIn ??
    (await asUsageErrors(() =>
      scoredBy('--data', resolveTask('--data', dataDescription(flags.data!, flags, hasChat), 0), []),
    ));
  const title = `${model.name} on ${task.name}`;
  const folder = flags.out ?? join('runs', `evaluate-${safeName(model.name)}-${safeName(task.name)}`);
  const examples = evaluationExamples(task, size ?? (builtIn ? (settings?.evaluation.size ?? null) : null));
  const asTokens = tokenTask(task, policy, sizes);
  const row = (examples[0] as { row?: object }).row ?? {};
  const by = [...new Set([...(benchmark?.by ?? []).filter((column) => column in row), ...(flags.by ?? [])])];
  const about = {
    version: packageVersion(),
    title,
    identity: {
      model: model.identity,
      data: identifyTask(task, examples.length),
      problems: examples.length,
      sampling: { ...sampling, maxTokens: asTokens.maxTokens },
      by,
    },
  };
  const progress = createProgress(json ? process.stderr : process.stdout);
  const stop = listenForStop({
    onFirst: (name) => progress.print(`${name}: ending; run the same command to continue`),
    onSecond: () => {},
  });
  try {
    const { summary } = await runEvaluation(policy, asTokens, examples, {
      ...sampling,
      folder,
      about,
      batch,
      takeOver: flags['take-over'],
      columns: (example) => columnsOf(example, by),
      signal: stop.signal,
      onProgress: (done) =>
        progress.update(`${done} of ${examples.length} problems`, done === 0 || done === examples.length),
    });
    if (process.stdout.isTTY && !json) progress.print(title);
    const shown = flags.against === undefined ? undefined : await compareFolders(flags.against, folder);
    show({ title, folder, summary, shown }, json);
  } catch (error) {
    if (error !== stop.signal.reason) throw error;
    process.exitCode = exitCodes[stop.received!];
  } finally {
    stop.release();
    policy.dispose();
  }
}

/** Checks sampling settings: a RangeError becomes a usage error that names the flag. */
function checkSamplingFlags(sampling: EvaluationSampling): EvaluationSampling {
  try {
    return checkEvaluationSampling('--', sampling);
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error });
  }
}

/** The columns of an example's row, or of the example itself, as text. */
function columnsOf(example: Example, by: readonly string[]): Record<string, string> {
  const row = (example as { row?: object }).row ?? example;
  return Object.fromEntries(
    by.map((column) => [column, String(readColumn(row, column, { where: '--by', field: column }) ?? 'none')]),
  );
}

function safeName(name: string): string {
  return name.replace(/\.[a-z]+$/i, '').replace(/[^\w.-]+/g, '-');
}

interface Model {
  name: string;
  policy: Policy;
  /** Identifies the model; an evaluation resumes only with the same. */
  identity: Record<string, unknown>;
  /** The run's own evaluation tasks. */
  tasks: Readonly<Record<string, Task>>;
  settings?: Settings;
  checkpoint?: string;
  step?: number;
}

interface LoadOptions {
  checkpoint?: string;
  backend?: Backend;
  precision?: Precision;
}

/** The policy of a run or of a model folder. UsageError if the path is neither. */
async function loadModel(path: string, options: LoadOptions): Promise<Model> {
  const config = readRunConfig(path);
  const name = basename(resolve(path));
  if (config === undefined || (config as { identity?: unknown }).identity !== undefined) {
    if (options.precision !== undefined) {
      throw new UsageError('--precision: expected a model folder, got a run, which has its own precision');
    }
    const { loadRun } = await import('./saved-run.js');
    const { policy, config: source, settings, checkpoint, step } = await loadRun(path, options);
    const identity = { policy: policy.description, step, checkpoint: hashFile(join(checkpoint, manifestName)) };
    const tasks = (source && resolveParts(resolveConfig(source)).evaluate) ?? {};
    return { name, policy, identity, tasks, settings, checkpoint, step };
  }
  if (options.checkpoint !== undefined) throw new UsageError('--checkpoint: expected a run folder, got a model folder');
  const { loadPretrainedPolicy } = await import('../weights/pretrained-policy.js');
  const { backend, precision } = options;
  const policy = await asUsageErrors(() => loadPretrainedPolicy(path, { backend, precision }));
  return { name, policy, identity: { policy: policy.description }, tasks: {} };
}

function showResults({ checkpoint, step }: Model, results: Readonly<Record<string, Evaluation>>, json: boolean): void {
  if (json) {
    process.stdout.write(`${JSON.stringify({ checkpoint, step, evaluation: results })}\n`);
    return;
  }
  if (checkpoint !== undefined) console.log(`${checkpoint}, step ${step}`);
  for (const [name, { accuracy, count, byDifficulty, estimates }] of Object.entries(results)) {
    console.log(evaluationLine(name, accuracy, count));
    for (const [quantity, value] of Object.entries(estimates ?? {})) console.log(`  ${quantity}: ${interval(value)} %`);
    for (const part of byDifficulty) {
      console.log(`  difficulty ${part.difficulty}: ${(100 * part.accuracy).toFixed(1)} % of ${part.count}`);
    }
  }
}

interface Shown {
  title: string;
  folder: string;
  summary: EvaluationSummary;
  shown: ShownComparison | undefined;
}

function show({ title, folder, summary, shown }: Shown, json: boolean): void {
  if (json) {
    const comparison = shown && { against: shown.against, ...shown.comparison };
    process.stdout.write(`${JSON.stringify({ title, folder, ...summary, ...(comparison && { comparison }) })}\n`);
    return;
  }
  const { problems, samples, truncated, tokens, estimates, parts } = summary;
  console.log(`${title}: ${problems} problems, ${samples} ${samples === 1 ? 'completion' : 'completions'} each`);
  const names = Object.keys(estimates);
  const rows = [
    ['percent, 95 % interval', 'problems', ...names],
    ['all', String(problems), ...names.map((name) => interval(estimates[name]))],
    ...parts.map((part) => [
      `${part.column} ${part.value}`,
      String(part.problems),
      ...names.map((name) => interval(part.estimates[name])),
    ]),
  ];
  console.log(`\n${layOut(rows).join('\n')}\n`);
  console.log(`${percent(truncated)} % cut off, ${tokens.toFixed(0)} tokens per completion`);
  for (const note of notesOf(summary)) process.stderr.write(`warning: ${note} (--max-tokens)\n`);
  if (shown) {
    const { comparison, against } = shown;
    console.log(
      `\nAgainst ${against}, paired over ${comparison.problems} problems: ${comparison.better} better, ${comparison.worse} worse`,
    );
    const compared = comparison.quantities.map(({ name, before, after, difference, p }) => [
      name,
      percent(before),
      percent(after),
      interval(difference, true),
      pText(p),
    ]);
    console.log(layOut([['', 'there', 'here', 'difference', 'p'], ...compared]).join('\n'));
  }
  console.log(`see ${reportPath(folder)}`);
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

export function precisionFlag(text: string | undefined): Precision | undefined {
  return text === undefined ? undefined : choiceFlag('precision', text, precisions);
}
