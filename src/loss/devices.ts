// Which devices there are, and the choice among them: 'auto' takes the fastest that is there, a name takes that one or
// fails loudly.

import { loadAddon } from '../native/load.js';
import { referenceDevice } from '../reference/index.js';
import { checkChoice } from './check.js';
import type { Device } from './plan.js';
import { type DeviceChoice, deviceChoices } from './request.js';

export interface DeviceInfo {
  name: 'cuda' | 'cpu' | 'reference';
  available: boolean;
  /** What it is, or why it is not available and what to do. */
  detail: string;
}

/** The devices in the order in which 'auto' tries them. Probes lazily; the result stays for the life of the process. */
export function devices(): DeviceInfo[] {
  const loaded = loadAddon();
  return [
    { name: 'cuda', available: false, detail: 'this version of groupgrad has no CUDA device' },
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

let warned = false;

/** @throws RangeError when the device that was asked for is not there, with the reason. */
export function pickDevice(choice: DeviceChoice = 'auto'): Device {
  checkChoice('options.device', choice, deviceChoices);
  if (choice === 'reference') return referenceDevice;
  const loaded = loadAddon();
  if (choice === 'cuda' || (choice === 'cpu' && !loaded.addon)) {
    const { detail } = devices().find(({ name }) => name === choice)!;
    throw new RangeError(`options.device: '${choice}' is not available: ${detail}`);
  }
  if (loaded.addon) return loaded.addon.cpu;
  if (!warned) {
    warned = true;
    process.emitWarning(`groupgrad uses its slow reference device: ${loaded.reason}`);
  }
  return referenceDevice;
}
