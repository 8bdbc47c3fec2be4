export { type AnchorOptions, type AnchorState, DifficultyAnchor } from './loss/anchor.js';
export type {
  AdvantageConfig,
  Aggregation,
  EntropyConfig,
  KlConfig,
  KlEstimator,
  LossConfig,
  Ratio,
  Surrogate,
  SurrogateKind,
} from './loss/config.js';
export { DeviceArray, type DeviceDtype } from './loss/device-array.js';
export { type DeviceInfo, devices } from './loss/devices.js';
export {
  type AdvantageResult,
  computeAdvantages,
  type LogitsResult,
  type LossResult,
  logitsLoss,
  type PolicyResult,
  policyLoss,
} from './loss/losses.js';
export type { LogitsDtype, Metrics } from './loss/plan.js';
export { type PresetName, presets } from './loss/presets.js';
export type {
  DeviceChoice,
  LogitsInput,
  LogitsOptions,
  PolicyInput,
  PolicyOptions,
  Rewards,
  RunOptions,
  TokenInput,
} from './loss/request.js';
