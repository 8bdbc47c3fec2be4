// `groupgrad/tfjs` as Node.js imports it: index.ts, with an error in plain words where TensorFlow.js is missing. Bundlers and
// `require` take index.ts itself, because they do not wait for a module.

import { withTfjs } from '../missing-tfjs.js';

export type * from './index.js';

export const { computeAdvantages, definePolicy, grpoLoss, policyLoss, tfjsBridge } = await withTfjs(
  'groupgrad/tfjs',
  () => import('./index.js'),
);
