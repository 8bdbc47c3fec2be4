// Which linear layers a LoRA adapter applies to, by PEFT's rules: a list of whole names or suffixes, a string that is a regular
// expression for whole names, or 'all-linear'; minus exclusions and layers not in layers_to_transform.

import vm from 'node:vm';
import { describe, rangeError } from '../base/check.js';
import { type Architecture, type Module, modulesOf } from '../model/architecture.js';
import { modulePath } from '../model/families.js';
import { quoted } from './header.js';

/** A linear layer that can have an adapter. */
export interface Target {
  readonly module: Module;
  /** Its path in a Hugging Face model: `model.layers.0.self_attn.q_proj`. */
  readonly path: string;
}

export interface TargetRules {
  /** Whole paths or suffixes (`q_proj`); or a regular expression for whole paths; or `all-linear`. */
  readonly targets: string | readonly string[];
  /** Exclusions, in the same form as targets. */
  readonly exclude?: string | readonly string[];
  /** Layer indices, for targets given as suffixes. Default: all. */
  readonly layers?: readonly number[];
  /** Names of the list of layers, as regular expressions. Default: any. */
  readonly layersPattern?: readonly string[];
}

/** Every linear layer of a model except the unembedding. */
const allLinear = 'all-linear';
const unembedding = 'unembedding';

/**
 * The linear layers that rules select, in the model's order. An unembedding that is tied to the embedding cannot have an
 * adapter: PEFT gives the output one and unties the two when it merges, which makes a model of another architecture.
 *
 * @param field the targets' name in errors
 * @throws RangeError if nothing or a tied unembedding is selected, or a regular expression is invalid or takes too long
 *
 * @example
 * selectTargets(architecture, { targets: ['q_proj', 'v_proj'] });
 * selectTargets(architecture, { targets: String.raw`.*\.mlp\.(gate|up)_proj` });
 */
export function selectTargets(architecture: Architecture, rules: TargetRules, field = 'target_modules'): Target[] {
  const all = linearLayers(architecture);
  const isExcluded = excluder(rules.exclude, all);
  const isTarget = matcher(rules, all);
  const selected = all.filter((target) => isTarget(target) && !isExcluded(target));
  if (selected.length === 0) {
    throw rangeError(field, `a linear map of ${architecture.family}`, describeTargets(rules.targets));
  }
  const head = selected.find(({ module }) => isTied(architecture, module));
  if (head) {
    throw rangeError(
      field,
      'linear modules other than the unembedding, which is tied to the embedding',
      quoted(head.path),
    );
  }
  return selected;
}

function isTied({ tiedEmbeddings }: Architecture, { name }: Module): boolean {
  return tiedEmbeddings && name === unembedding;
}

/** With the unembedding, also where it is tied: rules that select it must not be ignored. */
function linearLayers(architecture: Architecture): Target[] {
  return modulesOf({ ...architecture, tiedEmbeddings: false })
    .filter(({ kind }) => kind === 'linear')
    .map((module) => ({ module, path: modulePath(architecture, module.name) }));
}

/**
 * Rejects a list with an entry that selects nothing: it is probably misspelt.
 *
 * @param field the list's name in errors
 */
export function checkEveryTarget(architecture: Architecture, targets: readonly string[], field: string): void {
  const all = linearLayers(architecture);
  const paths = all.map(({ path }) => path);
  const offered = all.filter(({ module }) => !isTied(architecture, module)).map(({ path }) => path);
  const ends = [...new Set(offered.map((path) => path.slice(path.lastIndexOf('.') + 1)))];
  for (const target of targets) {
    if (!paths.some((path) => isEnd(path, target))) {
      throw rangeError(field, `linear modules of ${architecture.family} (${ends.join(', ')})`, quoted(target));
    }
  }
}

function describeTargets(targets: string | readonly string[]): string {
  return typeof targets === 'string' ? describe(targets) : `[${targets.map(describe).join(', ')}]`;
}

/** Whether a path is `end`, or ends in it after a dot. */
function isEnd(path: string, end: string): boolean {
  return path === end || path.endsWith(`.${end}`);
}

function excluder(exclude: TargetRules['exclude'], all: readonly Target[]): (target: Target) => boolean {
  if (exclude === undefined || exclude.length === 0) return () => false;
  if (typeof exclude !== 'string') return ({ path }) => exclude.some((end) => isEnd(path, end));
  const excluded = fullMatches('exclude_modules', exclude, all);
  return ({ path }) => excluded.has(path);
}

function matcher({ targets, layers, layersPattern }: TargetRules, all: readonly Target[]): (target: Target) => boolean {
  if (typeof targets === 'string') {
    if (layers?.length) {
      throw rangeError('layers_to_transform', 'none if target_modules is a string', `${layers.length} layers`);
    }
    if (targets.toLowerCase() === allLinear) return ({ module }) => module.name !== unembedding;
    const targeted = fullMatches('target_modules', targets, all);
    return ({ path }) => targeted.has(path);
  }
  const isInLayers = layers === undefined || layers.length === 0 ? () => true : layerFilter(layers, layersPattern, all);
  // As in PEFT, a whole path is selected whatever the layers.
  return ({ path }) => targets.includes(path) || (targets.some((end) => isEnd(path, end)) && isInLayers(path));
}

function layerFilter(layers: readonly number[], patterns: readonly string[] | undefined, all: readonly Target[]) {
  const sources = patterns?.length
    ? patterns.map((pattern) => String.raw`^(?:|.*?\.)(?:${pattern})\.(?<${layerGroup}>\d+)\.`)
    : [String.raw`^.*?\.[^.]*\.(?<${layerGroup}>\d+)\.`];
  const found = sources.map((source) => matches('layers_pattern', source, all));
  return (path: string) => {
    const layer = found.map((layerOf) => layerOf.get(path)).find((number) => number !== undefined);
    return layer !== undefined && layers.includes(Number(layer));
  };
}

function fullMatches(field: string, pattern: string, all: readonly Target[]): Set<string> {
  return new Set(matches(field, `^(?:${pattern})$`, all).keys());
}

/**
 * The key of a pattern table (`rank_pattern`, `alpha_pattern`) that applies to each path: the first that matches all of it or its
 * part after a dot. Paths without one are omitted.
 */
export function patternKeys(field: string, keys: readonly string[], all: readonly Target[]): Map<string, string> {
  const chosen = new Map<string, string>();
  for (const key of keys) {
    for (const path of matches(`${field}, ${describe(key)}`, String.raw`^(?:.*\.)?(?:${key})$`, all).keys()) {
      if (!chosen.has(path)) chosen.set(path, key);
    }
  }
  return chosen;
}

/** Milliseconds that one pattern may take over all paths. */
const patternTime = 1000;

/** The capture group of a pattern that holds the layer's index. */
const layerGroup = 'groupgradLayer';

/**
 * The paths that a pattern matches, with the layer's index if the pattern captures one. Patterns come from files, so one that
 * backtracks forever is stopped. Python's spelling of named groups is understood; other syntax that JavaScript lacks is an error.
 */
function matches(field: string, source: string, all: readonly Target[]): Map<string, string | undefined> {
  const own = source.replaceAll('(?P<', '(?<').replace(/\(\?P=(\w+)\)/g, String.raw`\k<$1>`);
  try {
    const pattern = new RegExp(own, 'u');
    const paths = all.map(({ path }) => path);
    const script = 'paths.map((path) => pattern.exec(path))';
    const found = vm.runInNewContext(
      script,
      { pattern, paths },
      { timeout: patternTime },
    ) as (RegExpExecArray | null)[];
    return new Map(found.flatMap((match, i) => (match ? [[paths[i], match.groups?.[layerGroup]] as const] : [])));
  } catch (error) {
    const { message } = error as Error;
    throw rangeError(
      field,
      `a regular expression that ends within ${patternTime} ms`,
      `${describe(source)}: ${message}`,
    );
  }
}
