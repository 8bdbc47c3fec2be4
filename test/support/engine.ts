// Our own tfjs backend in tests.

import { after, before } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { loadAddon } from '../../src/devices/load.js';
import { slowSet } from './sets.js';

const loaded = loadAddon();

/** Why the backend cannot run here, or false. */
export const noEngine = loaded.addon ? false : loaded.reason;

/** The addon's own functions. */
export const addon = loaded.addon;

/** The instruction sets that run here. */
export const instructionSets: readonly string[] = addon ? addon.engine.instructionSets() : [];

/** The first and the last of them are in the quick set; the reason to skip another. */
export const slowInstructionSet = (name: string): string | false =>
  name !== instructionSets[0] && name !== instructionSets.at(-1) && slowSet('is one of the instruction sets between');

/** `groupgrad/backend`, which cannot be loaded without the addon. */
export const engine = loaded.addon ? await import('../../src/backend.js') : undefined;

/** Within `describe`: its tests run on the backend; its settings are restored after them. */
export function useEngine(): void {
  let settings: ReturnType<NonNullable<typeof engine>['engineSettings']>;
  before(async () => {
    await tf.setBackend('groupgrad');
    settings = engine!.engineSettings();
  });
  after(async () => {
    await tf.setBackend('groupgrad');
    engine!.configureEngine(settings);
    engine!.setPrecision('float32');
  });
}
