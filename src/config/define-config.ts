// The type of a configuration of `groupgrad train`.

import type { LossConfig } from '../loss/option-types.js';
import type { PresetName } from '../loss/presets.js';
import type { PolicyLike } from '../model/policy-like.js';
import type { TransformerPolicyOptions } from '../model/transformer-options.js';
import type { DatasetOptions, Example, Problems, tasks } from '../tasks/index.js';
import type { TrainerOptions } from '../train/api.js';
import type { PretrainedOptions } from '../weights/pretrained-options.js';

type TaskName = keyof typeof tasks;

/** A task by its name in `tasks`, and its options; the seed defaults to the run's. */
export type TaskDescription = {
  [K in TaskName]: { task: K } & Omit<Parameters<(typeof tasks)[K]>[0], 'seed'> & { seed?: number };
}[TaskName];

/**
 * A data set by the path of its file or files, and its options. A configuration in code may use functions of a row. `chat: 'auto'`
 * presents problems as user messages if the policy is a model folder with a chat template.
 */
export type DataDescription = { data: string | readonly string[]; chat?: boolean | 'auto' } & Omit<
  DatasetOptions,
  'chat'
>;

/** A language model from a folder in Hugging Face's layout, with the options of `PretrainedPolicy.load`. */
export type PretrainedDescription = { model: string } & Omit<PretrainedOptions, 'backend' | 'onProgress'>;

export interface TrainConfig<E extends Example = Example>
  extends Omit<
    TrainerOptions<E>,
    'policy' | 'train' | 'evaluate' | 'loss' | 'runDir' | 'resume' | 'allowDrift' | 'notes'
  > {
  train: Problems<E> | TaskDescription | DataDescription;
  evaluate?: Readonly<Record<string, Problems | TaskDescription | DataDescription>>;
  /**
   * A transformer by its size, with the characters of `train`; a model by its folder in Hugging Face's layout
   * (`{ model: 'models/Qwen2.5-0.5B-Instruct', lora: { rank: 16 } }`); or a function that makes another policy, called when the tfjs
   * backend has started. Default: `{ preset: 'micro' }` with the run's seed.
   */
  policy?:
    | Partial<Omit<TransformerPolicyOptions, 'backend'>>
    | PretrainedDescription
    | (() => PolicyLike | Promise<PolicyLike>);
  /**
   * A loss, a preset's name, or a preset with changes; in a file a `surrogate` without `kind` changes parameters of the preset's.
   * Default: the trainer's.
   */
  loss?: LossConfig | PresetName | ({ preset: PresetName } & Partial<LossConfig>);
  /** Steps after which the run ends. Default: it does not end. */
  steps?: number;
  /** The tfjs backend. Default: the fastest that is installed. */
  backend?: TransformerPolicyOptions['backend'];
}

/** Returns a configuration unchanged, with its types checked: `export default defineConfig({ … })`. */
export function defineConfig<E extends Example>(config: TrainConfig<E>): TrainConfig<E> {
  return config;
}
