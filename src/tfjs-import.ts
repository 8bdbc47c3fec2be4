// `groupgrad/tfjs` as Node.js imports it: tfjs.ts, with an error in plain words where TensorFlow.js is missing. Bundlers and
// `require` take tfjs.ts itself, because they do not wait for a module.

import { withTfjs } from './base/missing-tfjs.js';

export type * from './tfjs.js';

export const { computeAdvantages, definePolicy, grpoLoss, policyLoss, tfjsBridge } = await withTfjs(
  'groupgrad/tfjs',
  () => import('./tfjs.js'),
);
