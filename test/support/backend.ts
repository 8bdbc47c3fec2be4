// The backend of tests that need one, whichever it is.

import { loadAddon } from '../../src/devices/load.js';

/** The one that computes tiny models fastest: ours, or tfjs's own in WebAssembly where there is no addon. */
export const quickBackend = loadAddon().addon ? 'groupgrad' : 'wasm';
