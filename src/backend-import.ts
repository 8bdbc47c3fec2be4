// `groupgrad/backend` as Node.js imports it: backend.ts, with a readable error if TensorFlow.js is missing, as in
// tfjs-import.ts.

import { withTfjs } from './base/missing-tfjs.js';

export type * from './backend.js';

export const { compress, configureEngine, engineSettings, getPrecision, instructionSets, isCompressed, setPrecision } =
  await withTfjs('groupgrad/backend', () => import('./backend.js'));
