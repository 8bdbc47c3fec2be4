// The devices, and the choice among them: 'auto' computes where the data is; a name selects that device or throws.

import { checkChoice } from '../base/check.js';
import { cpuDevice } from './cpu.js';
import { cudaDevice } from './cuda.js';
import { type CudaResult, loadAddon, loadCuda } from './load.js';
import type { Device } from './plan.js';
import { referenceDevice } from './reference/index.js';

export const deviceChoices = ['auto', 'cuda', 'cpu', 'reference'] as const;
export type DeviceChoice = (typeof deviceChoices)[number];

export interface DeviceInfo {
  name: 'cuda' | 'cpu' | 'reference';
  available: boolean;
  /** What it is, or why it is not available and how to fix it. */
  detail: string;
}

/** The devices. Probed on first use; the result is kept for the life of the process. */
export function devices(): DeviceInfo[] {
  const loaded = loadAddon();
  const cuda = loadCuda();
  return [
    { name: 'cuda', available: cuda.addon !== null, detail: inFull(cuda) },
    loaded.addon
      ? {
          name: 'cpu',
          available: true,
          detail: `${loaded.addon.cpu.instructionSet}, ${loaded.addon.cpu.threads} threads, ${loaded.path}`,
        }
      : { name: 'cpu', available: false, detail: loaded.reason },
    { name: 'reference', available: true, detail: 'float64 TypeScript: correct, slow' },
  ];
}

function inFull({ detail, remedy }: CudaResult): string {
  return remedy === undefined ? detail : `${detail}. ${remedy}`;
}

let cpu: Device | undefined;
let warned = false;

/**
 * @param onDevice whether an input is a DeviceArray. 'auto' then selects CUDA; for typed arrays it selects the CPU, because
 *   copying them to a GPU and back takes longer than the CPU's kernels.
 * @throws RangeError if the requested device is not available, with the reason.
 */
export function pickDevice(choice: DeviceChoice = 'auto', onDevice = false): { device: Device; isCuda: boolean } {
  checkChoice('options.device', choice, deviceChoices);
  if (choice === 'reference') return { device: referenceDevice, isCuda: false };
  if (choice === 'cuda' || (choice === 'auto' && onDevice)) {
    const cuda = loadCuda();
    if (cuda.addon) return { device: cudaDevice(cuda.addon), isCuda: true };
    throw new RangeError(`options.device: '${choice}' is not available: ${inFull(cuda)}`);
  }
  const loaded = loadAddon();
  if (loaded.addon) {
    cpu ??= cpuDevice(loaded.addon);
    return { device: cpu, isCuda: false };
  }
  if (choice === 'cpu') throw new RangeError(`options.device: 'cpu' is not available: ${loaded.reason}`);
  if (!warned) {
    warned = true;
    process.emitWarning(`groupgrad uses its slow reference device: ${loaded.reason}`);
  }
  return { device: referenceDevice, isCuda: false };
}
