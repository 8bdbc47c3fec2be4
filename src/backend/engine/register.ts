// Registers the backend `groupgrad` with tfjs: all kernels of the CPU backend, replaced by native ones where these exist.

import {
  copyRegisteredKernels,
  findBackendFactory,
  getKernel,
  type KernelFunc,
  registerBackend,
  registerKernel,
  unregisterKernel,
} from '@tensorflow/tfjs-core';
import { type EngineAddon, loadAddon } from '../../devices/load.js';
import { EngineBackend } from './backend.js';
import type { Arguments, Kernel } from './kernels/kernel.js';
import { nativeKernels } from './kernels/table.js';

/** Its name in tfjs. */
export const engineBackendName = 'groupgrad';

/** tfjs by default starts the registered backend with the highest priority; tfjs-node has 3. */
const priority = 4;

function kernelFunc(native: Kernel, fallback: KernelFunc | undefined, name: string): KernelFunc {
  return ({ inputs, backend, attrs }) => {
    const args = { inputs, backend, attrs: attrs ?? {} } as unknown as Arguments;
    const result = native(args);
    if (result) return result;
    if (fallback) return fallback({ inputs, backend, attrs });
    const types = Object.values(args.inputs).map((input) => `${input.dtype}[${input.shape}]`);
    throw new Error(
      `${name}: inputs of type ${types.join(', ')} are not supported on the backend ${engineBackendName}`,
    );
  };
}

/** Registers it once per process; further calls do nothing. Error with the reasons if the addon cannot be loaded. */
export function registerEngineBackend(): void {
  if (findBackendFactory(engineBackendName)) return;
  const { addon, ...rest } = loadAddon();
  if (!addon)
    throw new Error(
      `the tfjs backend ${engineBackendName} needs the native addon: ${(rest as { reason: string }).reason}`,
    );
  const engine: EngineAddon = addon.engine;
  copyRegisteredKernels('cpu', engineBackendName);
  for (const [name, native] of Object.entries(nativeKernels(engine))) {
    const cpu = getKernel(name, 'cpu');
    if (cpu) unregisterKernel(name, engineBackendName);
    registerKernel({
      ...cpu,
      kernelName: name,
      backendName: engineBackendName,
      kernelFunc: kernelFunc(native, cpu?.kernelFunc, name),
    });
  }
  registerBackend(engineBackendName, () => new EngineBackend(engine), priority);
}
