// One run of a comparison, from the state in its folder to its end: a seed's start, or a variant that continues from it.

import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { currentBackend } from '../backend/backend.js';
import { trainerOptions } from '../config/load.js';
import { checkPolicy } from '../model/define.js';
import type { Policy } from '../model/policy.js';
import { type TokenTask, tokenTask } from '../rollout/token-task.js';
import { listCheckpoints } from '../run/checkpoint.js';
import { differences, type Identity } from '../run/drift.js';
import type { RunConfig } from '../run/run.js';
import { readRunConfig, writeWhole } from '../run/run-folder.js';
import { isLocked } from '../run/run-lock.js';
import type { Example } from '../tasks/task.js';
import type { TrainerOptions } from '../train/api.js';
import { createTrainer, type RunTrainer } from '../train/grpo.js';
import { resolveSettings } from '../train/options.js';
import { runBenchmarks } from './benchmarks.js';
import { bucketOf } from './buckets.js';
import type { ComparisonConfig } from './define-comparison.js';
import {
  appendLine,
  comparisonFiles,
  type EvaluationLine,
  type FinishedRun,
  type Measurement,
  readJson,
  readLines,
  writeJson,
} from './folder.js';
import {
  type Plan,
  type ProbeSettings,
  probeExamples,
  probeTask,
  type RunEnd,
  startConfig,
  usualEvery,
  variantConfig,
} from './plan.js';
import { countRight } from './probe.js';

export interface Comparison {
  config: ComparisonConfig;
  plan: Plan;
  /** Folder of the comparison. */
  out: string;
}

export interface RunContext {
  /** Ends the run cleanly: it can be continued later. */
  signal: AbortSignal;
  /** Seconds that the running step may then take to finish. */
  grace: number;
  /** Whether to take the run from a process that is using it. */
  takeOver: boolean;
  onTrainer: (trainer: RunTrainer) => void;
  onStep: (step: number) => void;
}

/** Milliseconds to wait for a process of a killed comparison that is still saving its run. */
const savingTime = 10_000;

/** Opens a run, after waiting for a process left behind by a killed comparison. */
async function openTrainer(options: TrainerOptions, { signal, takeOver, onTrainer }: RunContext): Promise<RunTrainer> {
  const began = performance.now();
  while (!takeOver && isLocked(options.runDir!) && performance.now() - began < savingTime) {
    await wait(100, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
  const trainer = await createTrainer({ ...options, takeOver });
  onTrainer(trainer);
  return trainer;
}

/** The warm start of a seed, and the measurement of its prompts. Completed parts are not repeated. */
export async function runStart({ config, plan, out }: Comparison, seed: number, context: RunContext): Promise<void> {
  const { signal } = context;
  const files = comparisonFiles(out);
  const options = await trainerOptions(startConfig(config, seed));
  const own = { runDir: files.start(seed), evaluation: { atStart: false }, notes: { comparison: 'start' } };
  const trainer = await openTrainer({ ...options, ...own }, context);
  try {
    await trainer.start({ signal });
    signal.throwIfAborted();
    const policy = checkPolicy(trainer.policy);
    if (readJson(files.measurement(seed)) === undefined) {
      const measured = plan.probe
        ? await measure({ config, plan, out }, plan.probe, seed, { policy, options, signal })
        : { prompts: [], right: [] };
      const measurement: Measurement = { backend: currentBackend()!, ...measured };
      trainer.confirm();
      writeJson(files.measurement(seed), measurement);
    }
    await runBenchmarks(policy, {
      comparison: config,
      plan: benchmarkPlan(plan),
      sampling: baseSampling(config, options),
      runDir: files.start(seed),
      title: `before training, seed ${seed}`,
      identity: { start: seed },
      step: 0,
      seed,
      takeOver: context.takeOver,
      signal,
    });
  } finally {
    trainer.dispose();
    trainer.policy.dispose();
  }
}

/** The buckets of a seed's prompts, and the success on them of its policy before the first step. */
async function measure(
  { config, plan }: Comparison,
  { measure: completions, samples }: ProbeSettings,
  seed: number,
  { policy, options, signal }: { policy: Policy; options: TrainerOptions; signal: AbortSignal },
): Promise<Omit<Measurement, 'backend'>> {
  const examples = probeExamples(config, plan.probe, seed);
  const { task, temperature } = probeSampling(config, policy, options, seed);
  const sampling = { temperature, seed, step: 0, signal };
  const counts = await countRight(policy, task, examples, {
    ...sampling,
    samples: completions,
    purpose: 'measurement',
  });
  const prompts = examples.map(({ prompt, difficulty }, i) => {
    return { prompt, difficulty, right: counts[i], bucket: bucketOf(plan.buckets, counts[i] / completions) };
  });
  const bucketed = examples.filter((_, i) => prompts[i].bucket !== null);
  return { prompts, right: await countRight(policy, task, bucketed, { ...sampling, samples, purpose: 'evaluation' }) };
}

function benchmarkPlan({ benchmarks, identity }: Plan) {
  return { settings: benchmarks, identity: identity.benchmarks };
}

/** A variant's run from the seed's start, or from where it was interrupted, to its end. */
export async function runVariant(
  { config, plan, out }: Comparison,
  variant: string,
  seed: number,
  context: RunContext,
): Promise<void> {
  const { signal } = context;
  const files = comparisonFiles(out);
  const runDir = files.run(variant, seed);
  const measured = readJson<Measurement>(files.measurement(seed));
  if (measured === undefined) throw new Error(`${files.start(seed)}: expected the start of seed ${seed}, got nothing`);
  const options = await trainerOptions(variantConfig(config, variant, seed));
  const isBegun = listCheckpoints(join(runDir, 'checkpoints')).length > 0;
  // The settings that start and variant share are compared below; all others may differ.
  const from = isBegun ? {} : { resume: files.start(seed), allowDrift: true };
  const own = { runDir, ...from, notes: { comparison: 'variant', variant } };
  const trainer = await openTrainer({ ...options, ...own }, context);
  try {
    checkStart(files.start(seed), runDir);
    const policy = checkPolicy(trainer.policy);
    const evaluations = files.evaluations(variant, seed);
    const end = plan.ends[variant];
    const run: VariantRun = { trainer, runDir, evaluations, end, every: plan.probe?.every ?? usualEvery };
    await trainToEnd(run, context, probeOf({ config, plan, out }, measured, seed, { policy, options, signal }));
    await runBenchmarks(policy, {
      comparison: config,
      plan: benchmarkPlan(plan),
      sampling: baseSampling(config, options),
      runDir,
      title: `${variant}, seed ${seed}`,
      identity: { variant, seed },
      step: trainer.step,
      seed,
      takeOver: context.takeOver,
      signal,
    });
    const finished: FinishedRun = { end, step: trainer.step, backend: currentBackend()! };
    trainer.confirm();
    writeJson(files.finished(variant, seed), finished);
  } finally {
    trainer.dispose();
    trainer.policy.dispose();
  }
}

/** Evaluates a policy on a seed's bucketed prompts; without a probe there are none. */
function probeOf(
  { config, plan }: Comparison,
  measured: Measurement,
  seed: number,
  { policy, options, signal }: { policy: Policy; options: TrainerOptions; signal: AbortSignal },
): (step: number) => Promise<number[]> {
  const { probe } = plan;
  if (probe === null) return () => Promise.resolve([]);
  const { task, temperature } = probeSampling(config, policy, options, seed);
  const examples = bucketedExamples(probeExamples(config, probe, seed), measured);
  const sampling = { samples: probe.samples, temperature, seed, purpose: 'evaluation', signal } as const;
  return (step) => countRight(policy, task, examples, { ...sampling, step });
}

interface VariantRun {
  trainer: RunTrainer;
  runDir: string;
  evaluations: string;
  end: RunEnd;
  every: number;
}

/** Trains until the run's end, with evaluations in between. Throws the signal's reason if it aborts. */
async function trainToEnd(
  { trainer, runDir, evaluations, end, every }: VariantRun,
  { signal, grace, onStep }: RunContext,
  evaluate: (step: number) => Promise<number[]>,
): Promise<void> {
  const { steps = Infinity, tokens: tokenLimit = Infinity } = withoutNull(end);
  let tokens = tokensSampled(runDir);
  if (trainer.step > steps) throw new Error(`${runDir}: has already made ${trainer.step} steps, more than ${steps}`);
  if (tokensSampled(runDir, trainer.step - 1) >= tokenLimit) {
    throw new Error(`${runDir}: has already sampled ${tokens} tokens, more than a run that ends at ${tokenLimit}`);
  }
  const isEnd = () => trainer.step >= steps || tokens >= tokenLimit;
  const isDue = (step: number) => step % every === 0 || (step === trainer.step && isEnd());
  const cutBack = () => {
    trainer.confirm();
    return cutEvaluations(evaluations, trainer.step, isDue);
  };
  let last = cutBack();
  const evaluateWhereDue = async () => {
    const { step } = trainer;
    if (step === 0 || step === last || !isDue(step)) return;
    const line: EvaluationLine = { step, right: await evaluate(step) };
    trainer.confirm();
    appendLine(evaluations, line);
    last = step;
  };
  await evaluateWhereDue();
  while (!isEnd()) {
    signal.throwIfAborted();
    for await (const { metrics, fault } of trainer.steps({ max: steps, signal, grace })) {
      tokens += metrics.tokens ?? 0;
      if (fault !== undefined) {
        // The guard may have rolled the run back.
        tokens = tokensSampled(runDir);
        last = cutBack();
      }
      onStep(trainer.step);
      await evaluateWhereDue();
      if (isEnd()) break;
    }
  }
}

function withoutNull({ steps, tokens }: RunEnd): { steps?: number; tokens?: number } {
  return { steps: steps ?? undefined, tokens: tokens ?? undefined };
}

/** Number of tokens sampled in training up to a step, according to the run's metrics. */
function tokensSampled(runDir: string, last = Infinity): number {
  const lines = readLines<{ step: number; tokens?: number }>(join(runDir, 'metrics.jsonl'));
  return lines.reduce((sum, { step, tokens = 0 }) => (step <= last ? sum + tokens : sum), 0);
}

/** Drops evaluations after a step, or at an earlier end of the run. Returns the step of the last one left, or 0. */
function cutEvaluations(path: string, step: number, isDue: (step: number) => boolean): number {
  const lines = readLines<EvaluationLine>(path).filter((line) => line.step <= step && isDue(line.step));
  writeWhole(path, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  return lines.at(-1)?.step ?? 0;
}

/** Error if the prompts are not the ones that were measured. */
function bucketedExamples(examples: readonly Example[], { prompts }: Measurement): Example[] {
  const other = examples.find(({ prompt }, i) => prompt !== prompts[i]?.prompt);
  if (other)
    throw new Error(`probe.task: its prompts are not the ones that were measured: ${JSON.stringify(other.prompt)}`);
  return examples.filter((_, i) => prompts[i].bucket !== null);
}

/** All runs are measured with the base's sampling settings. */
function baseSampling(config: ComparisonConfig, options: TrainerOptions) {
  return resolveSettings({ ...options, sampling: config.base.sampling }).sampling;
}

function probeSampling(
  config: ComparisonConfig,
  policy: Policy,
  options: TrainerOptions,
  seed: number,
): { task: TokenTask; temperature: number } {
  const sampling = baseSampling(config, options);
  return { task: tokenTask(probeTask(config, seed), policy, sampling), temperature: sampling.temperature };
}

/** Settings that the runs of a seed share. */
const shared = ['policy', 'vocabulary', 'variables', 'train', 'backend', 'device'];

/** Error if a variant's run cannot continue from its seed's start. */
function checkStart(startDir: string, runDir: string): void {
  const part = (folder: string): Identity => {
    const { identity } = readRunConfig(folder) as RunConfig;
    return Object.fromEntries(shared.map((name) => [name, identity[name]]));
  };
  const found = differences(part(startDir), part(runDir));
  if (found.length === 0) return;
  throw new Error(
    `${runDir}: differs from the start of its seed\n${found.map((difference) => `  ${difference}`).join('\n')}`,
  );
}
