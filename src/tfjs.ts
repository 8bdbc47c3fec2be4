// The entry `groupgrad/tfjs`: the loss inside TensorFlow.js, and policies from tfjs models.

export { definePolicy, type PolicyDefinition } from './model/define.js';
export type { Decoder, Policy, SequenceBatch } from './model/policy.js';
export {
  type AdvantageTensors,
  computeAdvantages,
  type GrpoBatch,
  type GrpoOptions,
  type GrpoReport,
  grpoLoss,
  type LossOptions,
  type PolicyBatch,
  type PolicyReport,
  policyLoss,
  type TfjsBridge,
  tfjsBridge,
} from './tfjs/index.js';
