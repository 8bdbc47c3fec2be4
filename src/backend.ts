// The entry `groupgrad/backend`: importing it registers the tfjs backend `groupgrad`.
//
//   import 'groupgrad/backend';
//   await tf.setBackend('groupgrad');

import { registerEngineBackend } from './backend/engine/register.js';

export {
  compress,
  configureEngine,
  engineSettings,
  getPrecision,
  instructionSets,
  isCompressed,
  setPrecision,
} from './backend/engine/api.js';
export type { Precision } from './backend/precision.js';
export type { EngineSettings } from './devices/load.js';

registerEngineBackend();
