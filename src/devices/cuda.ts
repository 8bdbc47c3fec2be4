// The CUDA device behind the common device interface: plans hold memory in place of DeviceArrays, and numbers are fetched when
// they are read.

import { DeviceArray, memoryOf } from './device-array.js';
import type { CudaAddon } from './load.js';
import type { Device } from './plan.js';

/** A plan for the native side, with every DeviceArray replaced by its memory, also in nested objects. */
function withMemory<T>(value: T): T {
  if (value instanceof DeviceArray) return memoryOf(value) as T;
  if (value === null || typeof value !== 'object' || ArrayBuffer.isView(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, withMemory(field)])) as T;
}

/** The fields of `read`'s result, each fetched on access. */
function lazily<T extends object>(fields: readonly (keyof T & string)[], read: () => T): T {
  let result: T | undefined;
  const properties = fields.map((field) => {
    const get = () => {
      result ??= read();
      return result[field];
    };
    return [field, { get, enumerable: true }];
  });
  return Object.defineProperties({}, Object.fromEntries(properties)) as T;
}

export function cudaDevice(addon: CudaAddon): Device {
  return {
    linearLoss: null,
    computeAdvantages(plan, output) {
      const pending = addon.computeAdvantages(withMemory(plan), withMemory(output));
      return lazily(['accuracy', 'metrics'], () => pending.read());
    },
    policyLoss(plan) {
      const pending = addon.policyLoss(withMemory(plan));
      return lazily(['loss', 'metrics', 'accuracy'], () => pending.read());
    },
    logitsBackward(plan) {
      const pending = addon.logitsBackward(withMemory(plan));
      return lazily(['metrics'], () => pending.read());
    },
    logitsLoss(plan) {
      const pending = addon.logitsLoss(withMemory(plan));
      return lazily(['loss', 'metrics', 'accuracy'], () => pending.read());
    },
  };
}
