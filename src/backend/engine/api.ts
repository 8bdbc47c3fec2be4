// The backend's settings, and weights stored in bfloat16.

import { engine, type Tensor } from '@tensorflow/tfjs-core';
import { checkChoice } from '../../base/check.js';
import type { EngineSettings } from '../../devices/load.js';
import { type Precision, precisions } from '../precision.js';
import { currentEngineBackend, type EngineBackend } from './backend.js';
import { engineBackendName } from './register.js';

function current(): EngineBackend {
  const backend = currentEngineBackend();
  if (backend) return backend;
  const name = engine().backendName;
  throw new Error(
    `expected tfjs's current backend to be ${engineBackendName}, got ${name || 'none'}: await tf.setBackend('${engineBackendName}')`,
  );
}

/**
 * A tensor of the same values rounded to bfloat16, which takes half the memory. To tfjs it is a float32 tensor like any other;
 * matrix products and gathers read it directly, other operations expand it first. A product with it is bit-identical to one with
 * the rounded values in float32. No gradient flows through it: it is for weights that are not trained.
 *
 * `tensor`: float32. Error if tfjs's current backend is a different one.
 *
 * @example
 * const frozen = compress(weights);
 * weights.dispose();
 */
export function compress<T extends Tensor>(tensor: T): T {
  if (tensor.dtype !== 'float32') throw new TypeError(`tensor: expected float32, got ${tensor.dtype}`);
  const backend = current();
  return engine().makeTensorFromTensorInfo(backend.compress(tensor), backend) as T;
}

/** Whether a tensor's values are stored in bfloat16. */
export function isCompressed(tensor: Tensor): boolean {
  return current().stored(tensor.dataId).compressed !== undefined;
}

/**
 * How matrix products are computed from now on: in float32 (the default), or with both factors rounded to bfloat16 and sums
 * in float32, which is several times faster on processors with AMX or AVX512-BF16. For tfjs models of your own: this package's
 * policies have the option `precision`, whose default is the setting when they are made. Error if tfjs's current backend is a
 * different one.
 */
export function setPrecision(precision: Precision): void {
  checkChoice('precision', precision, precisions);
  current().precision = precision;
}

export function getPrecision(): Precision {
  return current().precision;
}

/** The instruction set and the number of threads that operations use. Error if tfjs's current backend is a different one. */
export function engineSettings(): EngineSettings {
  return current().engine.settings();
}

/**
 * Changes the given settings. Results do not depend on `threads`; between instruction sets they differ in their last bits.
 * RangeError for an instruction set that this processor does not support.
 */
export function configureEngine(settings: Partial<EngineSettings>): void {
  const backend = current();
  // The packed layout depends on the instruction set.
  backend.packed.clear();
  backend.engine.configure({ ...backend.engine.settings(), ...settings });
}

/** Instruction sets that this processor supports, the best last. */
export function instructionSets(): readonly string[] {
  return current().engine.instructionSets();
}
