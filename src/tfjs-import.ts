// `groupgrad/tfjs` as Node.js imports it: tfjs.ts, with a readable error if TensorFlow.js is missing. Bundlers and
// `require` use tfjs.ts itself, because they cannot wait for a module.

import { withTfjs } from './base/missing-tfjs.js';

export type * from './tfjs.js';

export const { computeAdvantages, definePolicy, grpoLoss, policyLoss, tfjsBridge } = await withTfjs(
  'groupgrad/tfjs',
  () => import('./tfjs.js'),
);
