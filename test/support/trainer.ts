// A trainer small enough for tests: one-digit addition by a transformer of a few hundred parameters.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Policy } from '../../src/model/policy.js';
import { createTransformer } from '../../src/model/transformer.js';
import { addition, type Example, type Task } from '../../src/tasks/index.js';
import { characterVocabulary } from '../../src/text/vocabulary.js';
import type { GrpoStep, GrpoTrainer, OptimizerOptions, TrainerOptions } from '../../src/train/api.js';
import { createTrainer } from '../../src/train/grpo.js';
import { type OptimizerSettings, resolveSettings } from '../../src/train/options.js';

export const tinyTask = addition({ digits: [1, 1], seed: 1 });
export const tinySize = { layers: 1, width: 8, heads: 2, keyValueHeads: 2, hidden: 12 };

export function tinyPolicy(seed = 3): Policy {
  return createTransformer(tinySize, characterVocabulary(tinyTask.characters), seed);
}

/** Rewards that differ within groups from the first step on, unlike those of an untrained policy's additions. */
export function lengthTask(task: Task = tinyTask): Task {
  return { ...task, score: (text) => (text.length === 1 ? 1 : 0) };
}

export function tinyOptions(change: Partial<TrainerOptions> = {}): TrainerOptions {
  return {
    policy: change.policy ?? tinyPolicy(),
    train: lengthTask(),
    promptsPerStep: 4,
    groupSize: 4,
    optimizer: { learningRate: 1e-2 },
    hadw: {},
    sampling: { maxTokens: 4 },
    seed: 7,
    ...change,
  };
}

/** A trainer that is disposed with its policy when its test ends. */
export async function tinyTrainer(t: TestContext, change: Partial<TrainerOptions> = {}): Promise<GrpoTrainer> {
  const trainer = await createTrainer(tinyOptions(change));
  t.after(() => {
    trainer.dispose();
    trainer.policy.dispose();
  });
  return trainer;
}

/** The steps of a trainer up to the `max`th. */
export async function stepsOf(trainer: GrpoTrainer, max: number): Promise<GrpoStep[]> {
  const steps: GrpoStep[] = [];
  for await (const step of trainer.steps({ max })) steps.push(step);
  return steps;
}

export function optimizerSettings(optimizer: OptimizerOptions): OptimizerSettings {
  return resolveSettings({ optimizer }).optimizer;
}

/** A folder that is removed when its test ends. */
export function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'groupgrad-run-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** The values of a policy's variables. */
export function weightsOf(policy: unknown): Record<string, Float32Array> {
  const { variables } = policy as Policy;
  return Object.fromEntries(
    Object.entries(variables).map(([name, variable]) => [name, variable.dataSync<'float32'>().slice()]),
  );
}

export function readLines(path: string): Record<string, unknown>[] {
  const lines = readFileSync(path, 'utf8').split('\n');
  return lines.slice(0, -1).map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** The files of a run that depend only on its configuration: logs and the newest checkpoint. */
export function lastingFiles(runDir: string): Record<string, Buffer | unknown> {
  const newest = readdirSync(join(runDir, 'checkpoints')).sort().at(-1)!;
  const checkpoint = join(runDir, 'checkpoints', newest);
  const { counters, logs, ...state } = JSON.parse(readFileSync(join(checkpoint, 'state.json'), 'utf8')) as {
    counters: Record<string, unknown>;
    logs: Record<string, unknown>;
  };
  return {
    newest,
    metrics: readFileSync(join(runDir, 'metrics.jsonl'), 'utf8'),
    samples: readFileSync(join(runDir, 'samples.jsonl'), 'utf8'),
    warnings: readFileSync(join(runDir, 'warnings.jsonl'), 'utf8'),
    weights: readFileSync(join(checkpoint, 'weights.safetensors')),
    optimizer: readFileSync(join(checkpoint, 'optimizer.safetensors')),
    // Seconds, and the sizes of logs that contain them, depend on the clock.
    state: { ...state, counters: { ...counters, seconds: 0 }, logs: { ...logs, timing: 0 } },
  };
}

export type { Example };
