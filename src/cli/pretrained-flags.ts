// `groupgrad train --model … --data …`: flags that describe the run of a pretrained model.

import { basename, dirname, resolve } from 'node:path';
import { hasChatTemplate } from '../config/load.js';
import { heldOut, learningRates, pretrainedName } from '../config/pretrained.js';
import { weightTypes } from '../weights/pretrained-options.js';
import { choiceFlag, numberFlag, UsageError } from './arguments.js';
import { type DataFlags, dataDescription, dataFlagNames, dataFlags } from './data-flags.js';

export const pretrainedFlags = {
  model: { type: 'string' },
  data: { type: 'string', multiple: true },
  'eval-data': { type: 'string', multiple: true },
  lora: { type: 'string' },
  adapter: { type: 'string' },
  dtype: { type: 'string' },
  hadw: { type: 'boolean' },
  'max-tokens': { type: 'string' },
  ...dataFlags,
} as const;

export interface PretrainedFlags extends DataFlags {
  readonly model?: string;
  readonly data?: readonly string[];
  readonly 'eval-data'?: readonly string[];
  readonly lora?: string;
  readonly adapter?: string;
  readonly dtype?: string;
  readonly hadw?: boolean;
  readonly 'max-tokens'?: string;
}

/** The run's settings as `path=value`, in order; undefined without --model. UsageError for flags that cannot be combined. */
export function pretrainedSettings(flags: PretrainedFlags): { from: string; name: string; set: string[] } | undefined {
  const { model, data, lora, adapter, dtype, hadw } = flags;
  if (model === undefined) {
    const names = ['data', 'eval-data', 'lora', 'adapter', 'dtype', 'hadw', 'max-tokens', ...dataFlagNames] as const;
    const other = names.find((name) => flags[name] !== undefined);
    if (other !== undefined) throw new UsageError(`--${other}: requires --model`);
    return undefined;
  }
  if (data === undefined) throw new UsageError('--model: requires --data');
  if (flags.verify === undefined && flags.benchmark === undefined) {
    throw new UsageError('--data: requires --verify or --benchmark');
  }
  if (flags.part !== undefined)
    throw new UsageError('--part: expected nothing, because the run trains on one part and evaluates on the other');
  const other = flags['eval-data'];
  const share = numberFlag('hold-out', flags['hold-out'], { above: 0, max: 0.9 }) ?? heldOut.share;
  if (other !== undefined && flags['hold-out'] !== undefined) {
    throw new UsageError('--hold-out: expected one of --hold-out and --eval-data, got both');
  }
  const rank = numberFlag('lora', lora, { min: 1, integer: true });
  const maxTokens = numberFlag('max-tokens', flags['max-tokens'], { min: 1, integer: true });
  const hasChat = hasTemplate(model);
  const describe = (files: readonly string[]) => {
    const own = { ...flags, 'hold-out': undefined };
    return dataDescription(
      files.map((file) => resolve(file)),
      own,
      hasChat,
    );
  };
  const problems = describe(data);
  const part = (name: 'train' | 'held-out') => ({ ...problems, split: { part: name, holdOut: share } });
  const policy = {
    model: resolve(model),
    ...(rank !== undefined && { lora: { rank } }),
    ...(adapter !== undefined && { adapter: resolve(adapter) }),
    ...(dtype !== undefined && { dtype: choiceFlag('dtype', dtype, weightTypes) }),
  };
  const isAdapted = rank !== undefined || adapter !== undefined;
  const settings: Record<string, unknown> = {
    policy,
    train: other ? problems : part('train'),
    evaluate: { heldOut: other ? describe(other) : part('held-out') },
    ...(isAdapted && { 'optimizer.learningRate': learningRates.lora }),
    ...(hadw && { hadw: {} }),
    ...(maxTokens !== undefined && { 'sampling.maxTokens': maxTokens }),
  };
  const set = Object.entries(settings).map(([path, value]) => `${path}=${JSON.stringify(value)}`);
  return { from: pretrainedName, name: nameOf(data[0]), set };
}

function hasTemplate(model: string): boolean {
  try {
    return hasChatTemplate(model);
  } catch (error) {
    throw new UsageError(`--model: ${(error as Error).message}`, { cause: error });
  }
}

/** Rewrites an error of the settings that the flags make, so that it names the flag. */
export function namingOwnFlags(error: Error): never {
  error.message = error.message
    .replace(/^train(?=[.:])/, '--data')
    .replace(/^evaluate\.heldOut(?=[.:])/, '--eval-data')
    .replace(/^policy\.(?=adapter:)/, '--');
  throw error;
}

/** `gsm8k` of gsm8k/train.jsonl, `math500` of math500.jsonl. */
function nameOf(file: string): string {
  const own = basename(file).replace(/\.[^.]+$/, '');
  const folder = basename(dirname(resolve(file)));
  return /^(train|test|data|dataset|validation)\b/i.test(own) && folder !== '' ? folder : own;
}
