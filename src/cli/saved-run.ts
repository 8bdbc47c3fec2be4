// Loads a saved run: its configuration, and its policy with the weights of a checkpoint. Commands import it when they need a
// policy, because it loads TensorFlow.js.

import { ensureBackend } from '../backend/backend.js';
import type { Backend } from '../backend/names.js';
import { checkObject } from '../base/check.js';
import type { TrainConfig } from '../config/define-config.js';
import { loadConfig, sourceOf, trainerOptions } from '../config/load.js';
import { checkPolicy } from '../model/define.js';
import type { Policy } from '../model/policy.js';
import { createTransformer, type TransformerSettings } from '../model/transformer.js';
import { checkpointWeights, openCheckpoint, type RunConfig } from '../run/run.js';
import { readRunConfig } from '../run/run-folder.js';
import { charactersOf, characterVocabulary } from '../text/vocabulary.js';
import type { Settings } from '../train/options.js';
import { assignAll, checkShapes } from '../train/training-state.js';
import { type LoadedPolicy, loadPretrainedPolicy, type PretrainedDescription } from '../weights/pretrained-policy.js';
import { UsageError } from './arguments.js';
import { checkCheckpoint } from './checkpoint-flags.js';

export interface SavedRun {
  policy: Policy;
  /** The configuration's file or built-in name; undefined for a run that a program started itself. */
  config: TrainConfig | undefined;
  settings: Settings;
  checkpoint: string;
  step: number;
}

/** Loads the policy of a run folder, or of one of its checkpoints. Error, or UsageError for a wrong path, that says what is missing. */
export async function loadRun(
  runDir: string,
  { checkpoint, backend }: { checkpoint?: string; backend?: Backend },
): Promise<SavedRun> {
  const run = readRunConfig(runDir) as RunConfig | undefined;
  if (run === undefined) throw new UsageError(`${runDir}: expected a run folder, got one without a config.json`);
  if (checkpoint !== undefined) checkCheckpoint('--checkpoint', checkpoint);
  const {
    policy: description,
    vocabulary,
    settings,
  } = checkObject(`${runDir}/config.json`, run.identity) as {
    policy: { type: string; seed: number } & TransformerSettings;
    vocabulary: { id?: string };
    settings: Settings;
  };
  const source = sourceOf(run.notes);
  const config = source && (await loadConfig(source.from, source.set)).config;
  await ensureBackend(backend ?? config?.backend);
  const characters = vocabulary.id === undefined ? undefined : charactersOf(vocabulary.id);
  let policy: Policy;
  if (description.type === 'pretrained') {
    const { folder, step, files } = openCheckpoint(checkpoint ?? runDir);
    policy = await loadTrained(runDir, description as unknown as PretrainedDescription, { folder, files });
    return { policy, config, settings, checkpoint: folder, step };
  }
  if (description.type === 'transformer' && characters !== undefined) {
    policy = createTransformer(
      { precision: 'float32', ...description },
      characterVocabulary(characters),
      description.seed,
    );
  } else if (config) {
    policy = checkPolicy(await (await trainerOptions(config)).policy);
  } else {
    throw new Error(`${runDir}: its policy was created by a program, and only that program can load it`);
  }
  const { folder, step, files } = openCheckpoint(checkpoint ?? runDir);
  const weights = checkpointWeights(files, folder);
  checkShapes('weights', policy.variables, weights);
  assignAll(policy.variables, weights);
  return { policy, config, settings, checkpoint: folder, step };
}

/** A pretrained policy with the trained weights of a checkpoint: its adapter, or all of its weights. */
async function loadTrained(
  runDir: string,
  before: PretrainedDescription,
  checkpoint: { folder: string; files: readonly string[] },
): Promise<LoadedPolicy> {
  const adapter = before.lora === null ? undefined : checkpoint.folder;
  const { precision = 'float32' } = before;
  const policy = await loadPretrainedPolicy(before.folder, { adapter, dtype: before.dtype ?? undefined, precision });
  const base = ({ config, weights, tokenizer }: PretrainedDescription) =>
    JSON.stringify({ config, weights, tokenizer });
  if (base(policy.description) !== base(before)) {
    policy.dispose();
    throw new Error(`${before.folder}: expected the files that ${runDir} was begun with, got different ones`);
  }
  if (adapter === undefined) {
    const weights = checkpointWeights(checkpoint.files, checkpoint.folder);
    checkShapes('weights', policy.variables, weights);
    assignAll(policy.variables, weights);
  }
  return policy;
}
