// Loads the configuration of a run for the command line: a built-in one or a TypeScript, JavaScript or JSON file, with changes by
// `--set`, converted to the trainer's options.

import { accessSync, constants, statSync } from 'node:fs';
import { basename, dirname, extname, resolve } from 'node:path';
import { backends } from '../backend/names.js';
import { checkChoice, checkNumber, checkObject, describe, rangeError, typeError } from '../base/check.js';
import { moduleFile, thisFile } from '../base/package-folder.js';
import { readText } from '../base/read-text.js';
import { choice } from '../base/schema.js';
import type { LossConfig } from '../loss/option-types.js';
import { type PresetName, presets, usualPreset } from '../loss/presets.js';
import type { PolicyLike } from '../model/policy-like.js';
import { dataset, type Problems, tasks } from '../tasks/index.js';
import { ChatTemplate } from '../text/chat-template.js';
import { readTokenizerFiles } from '../text/tokenizer-files.js';
import type { TrainerOptions } from '../train/api.js';
import { builtins } from './builtins.js';
import type { TaskDescription, TrainConfig } from './define-config.js';
import { pretrained, pretrainedName } from './pretrained.js';

type TaskName = TaskDescription['task'];

/** Where a configuration came from; a run's config.json records it, so that the run can be examined later. */
export interface ConfigSource {
  /** The name of a built-in configuration, or the absolute path of a file. */
  from: string;
  /** `path=value`, in order; file paths in them are absolute. */
  set: readonly string[];
}

/** A configuration as its name or file states it. */
export interface ReadConfig {
  /** The name of a built-in configuration, or the absolute path of a file. */
  path: string;
  /** The default name of the run folder. */
  name: string;
  original: Record<string, unknown>;
}

export interface LoadedConfig {
  config: TrainConfig;
  source: ConfigSource;
}

/** Error if there is no such file, RangeError if it is of another type. */
export function checkConfigFile(path: string): void {
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found) throw new Error(`${path}: no such file`);
  if (!found.isFile())
    throw new Error(`${path}: expected a file, got ${found.isDirectory() ? 'a folder' : 'something else'}`);
  if (!extensions.includes(extname(path))) {
    throw rangeError('config', 'a TypeScript, JavaScript or JSON file', describe(path));
  }
  accessSync(path, constants.R_OK);
}

/** Error unless `from` is the name of a built-in configuration or the path of a file. */
export function checkConfigName(from: string): void {
  if (Object.hasOwn(builtins, from) || from === pretrainedName) return;
  if (statSync(from, { throwIfNoEntry: false })) checkConfigFile(from);
  else {
    const known = Object.keys(builtins).join(', ');
    throw new Error(`${from}: no such file, and no built-in configuration (${known})`);
  }
}

const extensions = ['.json', '.ts', '.mts', '.cts', '.js', '.mjs', '.cjs'];

/** Reads a configuration; file paths in it are relative to its folder. Error or TypeError that names the file. */
export async function readConfig(from: string): Promise<ReadConfig> {
  checkConfigName(from);
  if (from === pretrainedName) return { path: from, name: from, original: { ...pretrained } };
  if (Object.hasOwn(builtins, from)) return { path: from, name: from, original: { ...builtins[from] } };
  const path = resolve(from);
  const name = basename(from).replace(/(\.config)?\.[^.]+$/, '');
  return { path, name, original: checkObject(path, await loadFile(path)) };
}

/** A configuration with changes by `path=value`. TypeError or RangeError that names the path. */
export function changeConfig({ path, original }: ReadConfig, set: readonly string[]): LoadedConfig {
  const source = { from: path, set: set.map(withAbsolutePath) };
  return { config: checkConfig(setAll(original, source.set)), source };
}

/** `readConfig` and `changeConfig` in one call. */
export async function loadConfig(from: string, set: readonly string[]): Promise<LoadedConfig> {
  return changeConfig(await readConfig(from), set);
}

/** The default export or contents of a TypeScript, JavaScript or JSON file, with changes by `path=value`. Error that names the file. */
export async function loadChanged(file: string, set: readonly string[]): Promise<Record<string, unknown>> {
  checkConfigFile(file);
  const path = resolve(file);
  return setAll(checkObject(path, await loadFile(path)), set);
}

/** A configuration with changes by `path=value`, in order; file paths in them are relative to the working directory. */
export function setAll(config: Record<string, unknown>, set: readonly string[]): Record<string, unknown> {
  return set.map(withAbsolutePath).reduce(setPath, config);
}

/** The contents of a file, with the paths in it absolute. */
async function loadFile(path: string): Promise<unknown> {
  return withAbsolutePaths(await readConfigFile(path), dirname(path));
}

/**
 * Settings that name files: `path` and `data` in the description of a task, `model` and `adapter` in that of a policy, and the
 * benchmarks of a comparison.
 */
const namesFile = /(^|\.)(path|data)$|(^|\.)policy\.(model|adapter)$|^benchmarks\.[^.]+$/;

/** A copy in which file paths are resolved against a folder. Objects made in code stay as they are. */
function withAbsolutePaths(value: unknown, folder: string, within = ''): unknown {
  const isFile = (name: string) => namesFile.test(within + name);
  if (Array.isArray(value)) return value.map((part) => withAbsolutePaths(part, folder));
  if (!isPlain(value) || Object.getPrototypeOf(value) !== Object.prototype) return value;
  const entries = Object.entries(value).map(([name, part]) => [
    name,
    isFile(name) ? absolute(part, folder) : withAbsolutePaths(part, folder, `${name}.`),
  ]);
  return Object.fromEntries(entries);
}

/** Makes a path, or several, absolute. */
function absolute(path: unknown, folder: string): unknown {
  if (Array.isArray(path)) return path.map((one) => absolute(one, folder));
  return typeof path === 'string' ? resolve(folder, path) : withAbsolutePaths(path, folder);
}

/** The assignment with its path made absolute: `train.path=data.jsonl`. */
function withAbsolutePath(assignment: string): string {
  const [, path, text] = assignmentPattern.exec(assignment) ?? [];
  if (path === undefined) return assignment;
  const value = parseValue(text);
  const absolute = withAbsolutePaths({ [path]: value }, process.cwd()) as Record<string, unknown>;
  if (JSON.stringify(absolute[path]) === JSON.stringify(value)) return assignment;
  const given = absolute[path];
  return `${path}=${typeof given === 'string' ? given : JSON.stringify(given)}`;
}

async function readConfigFile(path: string): Promise<unknown> {
  if (extname(path) === '.json') {
    try {
      return JSON.parse(readText(path));
    } catch (error) {
      throw new Error(`${path}: ${(error as Error).message}`);
    }
  }
  const { createJiti } = await import('jiti');
  // Resolve 'groupgrad' to this package, so that a configuration file does not need an installation beside it.
  const jiti = createJiti(thisFile, {
    alias: { 'groupgrad/tfjs': moduleFile('tfjs'), groupgrad: moduleFile('index') },
  });
  let loaded: unknown;
  try {
    loaded = await jiti.import(path, { default: true });
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`, { cause: error });
  }
  if (typeof loaded !== 'object' || loaded === null)
    throw typeError(path, 'a configuration as its default export', loaded);
  return loaded;
}

const assignmentPattern = /^([^=]+)=(.*)$/s;

/** A copy of the configuration with one value set: `loss.kl.beta=0.04`. A value that is not JSON is a string. */
export function setPath(config: Record<string, unknown>, assignment: string): Record<string, unknown> {
  const [, path, text] = assignmentPattern.exec(assignment) ?? [];
  if (path === undefined) throw rangeError('--set', 'path=value', describe(assignment));
  return setValue(config, '--set ', path, parseValue(text));
}

/**
 * A copy of the configuration with the value at a path replaced; undefined removes it. Errors put `about` before the
 * path.
 */
export function setValue(
  config: Record<string, unknown>,
  about: string,
  path: string,
  value: unknown,
): Record<string, unknown> {
  return withValue(config, { about, keys: path.split('.'), value }, 0);
}

function parseValue(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

interface Change {
  about: string;
  keys: readonly string[];
  value: unknown;
}

function withValue(parent: unknown, change: Change, depth: number): Record<string, unknown> {
  const { about, keys, value } = change;
  const path = `${about}${keys.join('.')}`;
  if (parent !== undefined && parent !== null && !isPlain(parent)) {
    throw typeError(path, `${keys.slice(0, depth).join('.')} to be an object of settings`, parent);
  }
  const copy = { ...(parent as Record<string, unknown> | null | undefined) };
  const key = keys[depth];
  if (key === '' || key === '__proto__') throw rangeError(path, 'names between the dots', describe(keys.join('.')));
  const isLast = depth === keys.length - 1;
  if (isLast && value === undefined) delete copy[key];
  else copy[key] = isLast ? value : withValue(copy[key], change, depth + 1);
  return copy;
}

/**
 * Whether a value is an object of plain fields: not an array, a task or anything else made in code. A configuration's `policy` is the
 * one setting that may be a function.
 */
function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return !Object.entries(value).some(([name, part]) => typeof part === 'function' && name !== 'policy');
}

/** Checks the fields that the trainer does not see; the others are checked where they are used. */
export function checkConfig(config: Record<string, unknown>): TrainConfig {
  for (const field of ['runDir', 'resume', 'allowDrift', 'notes']) {
    if (field in config)
      throw typeError(field, `nothing: use the command's flags to say where and how a run continues`, config[field]);
  }
  if (config.steps !== undefined) checkNumber('steps', config.steps, { min: 0, integer: true });
  if (config.backend !== undefined) checkChoice('backend', config.backend, backends);
  return config as unknown as TrainConfig;
}

/** `policy`: the configuration's policy, needed for a data set with `chat: 'auto'`. */
export function resolveTask(field: string, value: unknown, seed: number, policy?: unknown): Problems {
  const description = checkObject(field, value);
  if ('data' in description) {
    const { data, ...given } = description;
    const options = given.chat === 'auto' ? { ...given, chat: readsChats(policy) } : given;
    return naming(field, () => {
      try {
        return dataset(data as string, options);
      } catch (error) {
        // `field` replaces the data set's own name of the argument.
        (error as Error).message = (error as Error).message.replace(/^path(s\[\d+\])?: /, '');
        throw error;
      }
    });
  }
  if (!('task' in description)) return description as unknown as Problems;
  const { task: name, ...options } = description;
  checkChoice(`${field}.task`, name, Object.keys(tasks) as TaskName[]);
  const make = tasks[name as TaskName] as (options: unknown) => Problems;
  // A file's problems are fixed: they take no seed.
  const seeded = name === 'jsonl' || 'seed' in options ? options : { ...options, seed };
  return naming(field, () => make(seeded));
}

/** Whether a policy is a model folder with a chat template. RangeError or TypeError that names the file if it is not a model folder. */
function readsChats(policy: unknown): boolean {
  const model = isPlain(policy) ? policy.model : undefined;
  return typeof model === 'string' && naming('policy', () => hasChatTemplate(model));
}

/** Whether a model folder has a chat template. TypeError or RangeError that names the file if it is not a model folder. */
export function hasChatTemplate(folder: string): boolean {
  const { config, roles } = readTokenizerFiles(folder);
  return ChatTemplate.read(folder, config, roles) !== null;
}

/** Runs a check whose errors name options, and prefixes them with `field`. */
function naming<T>(field: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    const { message } = error as Error;
    // A message begins with an option or with a location in a file.
    (error as Error).message = `${field}${/^[a-z]\w*[.:[]/i.test(message) ? '.' : ': '}${message}`;
    throw error;
  }
}

export const presetField = choice(Object.keys(presets) as PresetName[], {
  default: usualPreset,
  doc: 'The loss that the other settings change. `loss=NAME` is a preset without changes.',
});

/** The surrogate of a preset keeps its parameters, unless another one is given by its `kind`. */
function resolveLoss(loss: TrainConfig['loss']): LossConfig | undefined {
  if (loss === undefined) return undefined;
  const given = typeof loss === 'string' ? { preset: loss } : checkObject('loss', loss);
  const { preset, surrogate, ...changes } = given;
  const changesPreset = surrogate === undefined || (isPlain(surrogate) && !('kind' in surrogate));
  if (!changesPreset && preset === undefined) return given as unknown as LossConfig;
  const start = presets[presetField.resolve('loss.preset', preset)];
  return {
    ...start,
    ...changes,
    surrogate: changesPreset ? { ...start.surrogate, ...surrogate } : surrogate,
  } as LossConfig;
}

async function resolvePolicy(policy: TrainConfig['policy'], train: Problems, seed: number): Promise<PolicyLike> {
  if (typeof policy === 'function') return policy();
  const size = { ...checkObject('policy', policy ?? {}) };
  if ('logits' in size) {
    throw typeError('policy', 'a size, or a function that creates the policy after the backend has started', policy);
  }
  if ('model' in size) {
    const { model, ...options } = size;
    const { loadPretrainedPolicy } = await import('../weights/pretrained-policy.js');
    return naming('policy', () => loadPretrainedPolicy(model as string, { seed, ...options }));
  }
  const { createTransformerPolicy } = await import('../model/transformer-policy.js');
  return createTransformerPolicy({ seed, vocabulary: train.characters, ...size });
}

/** Tasks and settings of a configuration: the trainer's options except the policy and the run folder. */
export function resolveConfig(config: TrainConfig): Omit<TrainerOptions, 'policy'> & { seed: number } {
  const { steps: _, backend: __, policy, train, evaluate = {}, loss, ...rest } = config;
  const seed = rest.seed ?? 0;
  checkNumber('seed', seed, { min: 0, integer: true });
  if (train === undefined) throw typeError('train', 'a task', train);
  const sets = Object.entries(checkObject('evaluate', evaluate));
  return {
    ...rest,
    seed,
    train: resolveTask('train', train, seed, policy),
    evaluate: Object.fromEntries(
      sets.map(([name, task]) => [name, resolveTask(`evaluate.${name}`, task, seed, policy)]),
    ),
    ...(loss !== undefined && { loss: resolveLoss(loss) }),
  };
}

/** The trainer's options, with the policy created on the backend that the configuration asks for. */
export async function trainerOptions(config: TrainConfig): Promise<TrainerOptions> {
  const { ensureBackend } = await import('../backend/backend.js');
  const options = resolveConfig(config);
  await ensureBackend(config.backend);
  return { ...options, policy: await resolvePolicy(config.policy, options.train, options.seed) };
}

/** The source of a run's configuration, from its config.json; undefined for a run that a program started itself. */
export function sourceOf(notes: unknown): ConfigSource | undefined {
  const source = (notes as { source?: unknown } | undefined)?.source;
  if (source === undefined) return undefined;
  const { from, set } = checkObject('notes.source', source);
  if (typeof from !== 'string' || !Array.isArray(set)) throw typeError('notes.source', 'from and set', source);
  return { from, set: set.map(String) };
}
