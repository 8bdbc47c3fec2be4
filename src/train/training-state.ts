// Everything that a step changes: weights, optimiser, anchor, counters. One place to snapshot it, to give it back, and to
// turn it into what a checkpoint holds.

import * as tf from '@tensorflow/tfjs-core';
import { rangeError } from '../base/check.js';
import { NumericFault } from '../base/numeric-fault.js';
import { type AnchorState, DifficultyAnchor } from '../loss/anchor.js';
import type { Policy } from '../model/policy.js';
import type { Counters, SavedState } from '../run/state.js';
import type { Arrays } from '../weights/safetensors.js';
import { AdamW, type Variables } from './adamw.js';
import { newHealth } from './health.js';
import type { OptimizerSettings, Settings } from './options.js';
import { ReferencePolicy } from './reference-policy.js';

/** Gives the state back that it was made of, as often as it is asked to. `dispose` frees what it keeps. */
export interface Snapshot {
  restore(): void;
  dispose(): void;
}

/** Owns the optimiser's and the reference policy's tensors, not the policy. */
export class TrainingState {
  readonly optimizer: AdamW;
  /** The optimizer of an unfinished warm start. */
  warmStart: AdamW | undefined;
  anchor: DifficultyAnchor | undefined;
  reference: ReferencePolicy | undefined;
  counters: Counters = { step: 0, cursor: 0, faults: 0, seconds: 0, best: null, health: newHealth() };

  constructor(
    private readonly policy: Policy,
    private readonly settings: Settings,
  ) {
    this.optimizer = new AdamW(policy.variables, settings.optimizer);
    const anchor = settings.hadw?.anchor ?? 'none';
    this.anchor = anchor === 'none' ? undefined : new DifficultyAnchor(anchor);
  }

  /** The policy as it is now becomes the reference. */
  holdReference(): void {
    this.dropReference();
    this.reference = new ReferencePolicy(this.policy);
  }

  dropReference(): void {
    this.reference?.dispose();
    this.reference = undefined;
  }

  /** The optimizer of the warm start: that of an interrupted one, or a new one. */
  beginWarmStart(settings: OptimizerSettings): AdamW {
    this.warmStart ??= new AdamW(this.policy.variables, settings);
    return this.warmStart;
  }

  /** Frees the optimizer of the warm start. */
  endWarmStart(): void {
    this.warmStart?.dispose();
    this.warmStart = undefined;
  }

  /** The state of reinforcement before a step. Tensors are shared, not copied: a step replaces them. */
  snapshot(): Snapshot {
    const variables = Object.values(this.groups()).flatMap((group) => Object.values(group));
    const values = variables.map((variable) => tf.keep(tf.clone(variable)));
    const { updates } = this.optimizer;
    const anchor = this.anchor?.toJSON();
    const counters = { ...this.counters };
    return {
      restore: () => {
        variables.forEach((variable, i) => {
          variable.assign(values[i]);
        });
        this.optimizer.updates = updates;
        this.anchor = anchor && DifficultyAnchor.fromJSON(anchor);
        this.counters = { ...counters };
      },
      dispose: () => tf.dispose(values),
    };
  }

  /** NumericFault when a weight or a moment is not finite: such a state must not be kept. */
  save(): SavedState {
    const { weights, means, squares } = this.groups();
    const { reference, anchor, counters, warmStart } = this;
    const { updates } = warmStart ?? this.optimizer;
    return {
      weights: read('weight', weights),
      optimizer: { ...prefixed('mean', read('mean', means)), ...prefixed('square', read('square', squares)) },
      reference: reference ? read('reference weight', reference.weights) : null,
      isWarmStart: warmStart !== undefined,
      counters: { ...counters, updates, anchor: anchor?.toJSON() ?? null },
    };
  }

  /** RangeError, before anything is changed, when names or shapes are not this policy's. */
  load({ weights, optimizer, reference, isWarmStart, counters: { updates, anchor, ...counters } }: SavedState): void {
    const { warmStart } = this.settings;
    this.endWarmStart();
    // The settings have none any more (allowDrift): the warm start ends where it was.
    if (isWarmStart && warmStart) this.beginWarmStart(warmStart.optimizer);
    const groups = this.groups();
    const means = unprefixed('mean', optimizer);
    const squares = unprefixed('square', optimizer);
    const parts: [string, Variables, Arrays][] = [
      ['weights', groups.weights, weights],
      ['optimizer means', groups.means, means],
      ['optimizer squares', groups.squares, squares],
    ];
    if (reference) parts.push(['reference weights', groups.weights, reference]);
    for (const [what, variables, arrays] of parts) checkArrays(what, variables, arrays);
    if (reference) {
      assignAll(groups.weights, reference);
      this.holdReference();
    }
    assignAll(groups.weights, weights);
    if (!isWarmStart || this.warmStart) {
      assignAll(groups.means, means);
      assignAll(groups.squares, squares);
      (this.warmStart ?? this.optimizer).updates = updates;
    }
    if (this.anchor && anchor) this.anchor = resumedAnchor(this.anchor, anchor);
    this.counters = { ...counters, health: counters.health ?? newHealth() };
  }

  dispose(): void {
    this.endWarmStart();
    this.optimizer.dispose();
    this.dropReference();
  }

  private groups() {
    const { means, squares } = this.warmStart ?? this.optimizer;
    return { weights: this.policy.variables, means, squares };
  }
}

/** The saved anchor; where drift has given `own` other options, one with those that has observed what the saved one remembers. */
function resumedAnchor(own: DifficultyAnchor, saved: AnchorState): DifficultyAnchor {
  const optionsOf = ({ observed: _, history: __, ...options }: AnchorState) => JSON.stringify(options);
  const { history } = saved;
  const options = { ...own.toJSON(), observed: 0, history: [] };
  if (optionsOf(options) === optionsOf(saved)) return DifficultyAnchor.fromJSON(saved);
  const anchor = DifficultyAnchor.fromJSON(options);
  for (const value of history) anchor.observe(value);
  return anchor;
}

function read(what: string, tensors: Readonly<Record<string, tf.Tensor>>): Arrays {
  const entries = Object.entries(tensors).map(([name, tensor]) => {
    // A copy: a backend may hand out memory that it goes on using.
    const values = tensor.dataSync<'float32'>().slice();
    if (!values.every(Number.isFinite)) throw new NumericFault(`${what} ${name}: expected finite values, got others`);
    return [name, { shape: tensor.shape, values }] as const;
  });
  return Object.fromEntries(entries);
}

function prefixed(prefix: string, arrays: Arrays): Arrays {
  return Object.fromEntries(Object.entries(arrays).map(([name, array]) => [`${prefix}.${name}`, array]));
}

function unprefixed(prefix: string, arrays: Arrays): Arrays {
  const own = Object.entries(arrays).filter(([name]) => name.startsWith(`${prefix}.`));
  return Object.fromEntries(own.map(([name, array]) => [name.slice(prefix.length + 1), array]));
}

/** RangeError where names or shapes are not those of the variables. */
export function checkArrays(what: string, variables: Variables, arrays: Arrays): void {
  const described = (shapes: [string, readonly number[]][]) =>
    shapes.map(([name, shape]) => `${name} [${shape.join(', ')}]`).sort();
  const expected = described(Object.entries(variables).map(([name, { shape }]) => [name, shape as number[]]));
  const came = described(Object.entries(arrays).map(([name, { shape }]) => [name, shape]));
  const missing = expected.find((one) => !came.includes(one));
  const extra = came.find((one) => !expected.includes(one));
  if (missing !== undefined || extra !== undefined) {
    throw rangeError(`checkpoint, ${what}`, missing ?? `no ${extra}`, extra ?? 'nothing of that name and shape');
  }
}

/** Writes loaded values into a policy's variables. */
export function assignAll(variables: Variables, arrays: Arrays): void {
  for (const [name, variable] of Object.entries(variables)) {
    const values = tf.tensor(arrays[name].values, variable.shape as number[], 'float32');
    variable.assign(values);
    values.dispose();
  }
}
