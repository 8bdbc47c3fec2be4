// Everything that a step changes: weights, optimizer, anchor and counters. Takes snapshots of it, restores them, and converts
// it to and from the contents of a checkpoint.

import * as tf from '@tensorflow/tfjs-core';
import { rangeError } from '../base/check.js';
import { NumericFault } from '../base/numeric-fault.js';
import { type AnchorState, DifficultyAnchor } from '../loss/anchor.js';
import type { Policy } from '../model/policy.js';
import type { Counters, SavedState } from '../run/state.js';
import type { TensorSource } from '../weights/tensor-source.js';
import { AdamW, type Variables } from './adamw.js';
import { newHealth } from './health.js';
import type { OptimizerSettings, Settings } from './options.js';
import { createReference, type Reference } from './reference-policy.js';

/** Restores the state at the time of the snapshot, any number of times. `dispose` frees its memory. */
export interface Snapshot {
  restore(): void;
  dispose(): void;
}

/** Owns the optimizer's and the reference policy's tensors, not the policy. */
export class TrainingState {
  readonly optimizer: AdamW;
  /** The optimizer of an unfinished warm start. */
  warmStart: AdamW | undefined;
  anchor: DifficultyAnchor | undefined;
  reference: Reference | undefined;
  counters: Counters = { step: 0, cursor: 0, faults: 0, seconds: 0, best: null, health: newHealth() };

  constructor(
    private readonly policy: Policy,
    private readonly settings: Settings,
  ) {
    this.optimizer = new AdamW(policy.variables, settings.optimizer);
    const anchor = settings.hadw?.anchor ?? 'none';
    this.anchor = anchor === 'none' ? undefined : new DifficultyAnchor(anchor);
  }

  /** Makes the current policy the reference. */
  holdReference(): void {
    this.dropReference();
    this.reference = createReference(this.policy);
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

  /** NumericFault if a weight or a moment is not finite: such a state must not be saved. */
  save(): SavedState {
    const { weights, means, squares } = this.groups();
    const { reference, anchor, counters, warmStart } = this;
    const { updates } = warmStart ?? this.optimizer;
    requireFinite('weight', weights);
    requireFinite('mean', means);
    requireFinite('square', squares);
    return {
      weights: sourceOf(weights),
      optimizer: sourceOf({ ...prefixed('mean', means), ...prefixed('square', squares) }),
      reference: reference?.weights ? sourceOf(reference.weights) : null,
      files: this.policy.checkpointFiles?.() ?? {},
      isWarmStart: warmStart !== undefined,
      counters: { ...counters, updates, anchor: anchor?.toJSON() ?? null },
    };
  }

  /** RangeError, before anything is changed, if names or shapes are not those of this policy. */
  load({ weights, optimizer, reference, isWarmStart, counters: { updates, anchor, ...counters } }: SavedState): void {
    const { warmStart } = this.settings;
    this.endWarmStart();
    // The settings no longer have a warm start (allowDrift): it ends where it was.
    if (isWarmStart && warmStart) this.beginWarmStart(warmStart.optimizer);
    const groups = this.groups();
    const moments = { ...prefixed('mean', groups.means), ...prefixed('square', groups.squares) };
    checkShapes('weights', groups.weights, weights);
    checkShapes('optimizer', moments, optimizer);
    if (reference) {
      checkShapes('reference weights', groups.weights, reference);
      assignAll(groups.weights, reference);
      this.holdReference();
    }
    assignAll(groups.weights, weights);
    if (!isWarmStart || this.warmStart) {
      assignAll(moments, optimizer);
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

/** The saved anchor; if `own` has other options (allowDrift), an anchor with those that has observed what the saved one stores. */
function resumedAnchor(own: DifficultyAnchor, saved: AnchorState): DifficultyAnchor {
  const optionsOf = ({ observed: _, history: __, ...options }: AnchorState) => JSON.stringify(options);
  const { history } = saved;
  const options = { ...own.toJSON(), observed: 0, history: [] };
  if (optionsOf(options) === optionsOf(saved)) return DifficultyAnchor.fromJSON(saved);
  const anchor = DifficultyAnchor.fromJSON(options);
  for (const value of history) anchor.observe(value);
  return anchor;
}

/** NumericFault if a value is not finite. */
function requireFinite(what: string, variables: Variables): void {
  for (const [name, variable] of Object.entries(variables)) {
    const values = variable.dataSync<'float32'>();
    if (!values.every(Number.isFinite))
      throw new NumericFault(`${what} ${name}: expected finite values, got non-finite ones`);
  }
}

/** A source that reads the tensors' values when it is asked for them. */
function sourceOf(tensors: Readonly<Record<string, tf.Tensor>>): TensorSource {
  return {
    shapes: Object.fromEntries(Object.entries(tensors).map(([name, { shape }]) => [name, shape])),
    read: (name) => tensors[name].dataSync<'float32'>(),
  };
}

function prefixed(prefix: string, variables: Variables): Variables {
  return Object.fromEntries(Object.entries(variables).map(([name, variable]) => [`${prefix}.${name}`, variable]));
}

/** RangeError if names or shapes are not those of the variables. */
export function checkShapes(what: string, variables: Variables, { shapes }: TensorSource): void {
  const described = (all: [string, readonly number[]][]) =>
    all.map(([name, shape]) => `${name} [${shape.join(', ')}]`).sort();
  const expected = described(Object.entries(variables).map(([name, { shape }]) => [name, shape as number[]]));
  const came = described(Object.entries(shapes));
  const missing = expected.find((one) => !came.includes(one));
  const extra = came.find((one) => !expected.includes(one));
  if (missing !== undefined || extra !== undefined) {
    throw rangeError(`checkpoint, ${what}`, missing ?? `no ${extra}`, extra ?? 'nothing of that name and shape');
  }
}

/** Writes loaded values into the variables of the same names. */
export function assignAll(variables: Variables, source: TensorSource): void {
  for (const [name, variable] of Object.entries(variables)) {
    const values = tf.tensor(source.read(name), variable.shape as number[], 'float32');
    variable.assign(values);
    values.dispose();
  }
}
