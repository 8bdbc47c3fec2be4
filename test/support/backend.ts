// The backend of tests that need any.

import { loadAddon } from '../../src/devices/load.js';

/** The backend that computes tiny models fastest: ours, or tfjs's own in WebAssembly if there is no addon. */
export const quickBackend = loadAddon().addon ? 'groupgrad' : 'wasm';
